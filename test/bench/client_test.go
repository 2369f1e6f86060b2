//go:build linux

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// door is a web-api and all behind it: it answers submissions, and writes their lines.
type door struct {
	*httptest.Server
	log   string
	posts atomic.Int64
	mu    sync.Mutex
	seen  map[string]int // addresses
}

func newDoor(t *testing.T, line func(d *door, email string) string, status func(n int64) int) *door {
	t.Helper()
	d := &door{log: filepath.Join(t.TempDir(), "sent_emails"), seen: map[string]int{}}
	f, err := os.Create(d.log)
	stagetest.OK(t, err)
	t.Cleanup(func() { f.Close() })
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Email, Lat, Long string }
		var err error
		if r.Header.Get("Accept") == "application/json" {
			err = json.NewDecoder(r.Body).Decode(&in)
		} else if in.Email, in.Lat, in.Long = r.PostFormValue("email"), r.PostFormValue("lat"), r.PostFormValue("long"); len(r.PostFormValue("idempotency_key")) != 36 {
			err = errors.New("the one-time key does not have the page's 36 characters")
		}
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/distance" {
			t.Errorf("%s %s: %+v, %v", r.Method, r.URL, in, err)
		}
		var lat, long float64
		if n, err := fmt.Sscan(in.Lat+" "+in.Long, &lat, &long); n != 2 || err != nil || lat < 10 || lat >= 80 || long < 10 || long >= 90 {
			t.Errorf("submission %+v: %v", in, err)
		}
		code := status(d.posts.Add(1))
		d.mu.Lock()
		d.seen[in.Email]++
		if code == http.StatusCreated {
			if _, err := f.WriteString(line(d, in.Email)); err != nil {
				t.Error(err)
			}
		}
		d.mu.Unlock()
		w.WriteHeader(code)
		fmt.Fprint(w, `{"id":"x"}`)
	}))
	t.Cleanup(d.Close)
	return d
}

func once(_ *door, email string) string { return "Email sent to: " + email + "; Message: far\n" }

func (d *door) client(t *testing.T) *client { return newClient(t, d.Listener.Addr().String(), d.log) }

// What goes wrong is seen: lines that come twice, answers that are refusals.
func TestClientSees(t *testing.T) {
	d := newDoor(t, func(d *door, email string) string { return strings.Repeat(once(d, email), 2) }, func(n int64) int {
		if n%3 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusCreated
	})
	c := d.client(t)
	if _, err := c.run(t.Context(), drive{posting: asJSON, connections: 5, measure: 100 * time.Millisecond, outstanding: 50, edge: func() {}}); err != nil {
		t.Fatal(err)
	}
	stagetest.Eventually(t, "the last line's double comes", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.doubled == c.accepted
	})
	refused := int(d.posts.Load()) / 3
	if c.accepted != c.answered-refused || c.status[503] != refused || c.written != c.accepted || c.doubled != c.accepted {
		t.Errorf("%d answered, of them %d refused: the client saw %d accepted, %v, %d lines, %d doubled", c.answered, refused, c.accepted, c.status, c.written, c.doubled)
	}
}

// A server that closes a connection instead of answering ends the run with an error.
func TestClientServerGone(t *testing.T) {
	d := newDoor(t, once, func(n int64) int {
		if n == 10 {
			panic(http.ErrAbortHandler)
		}
		return http.StatusCreated
	})
	c := d.client(t)
	if _, err := c.run(t.Context(), drive{posting: asJSON, connections: 2, measure: time.Minute, outstanding: 50, edge: func() {}}); err == nil || c.answered > 12 {
		t.Errorf("the 10th request was not answered: %v, %d answered", err, c.answered)
	}
}

// Lines that are written in pieces, and longer than a read, are found once.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := os.Create(path)
	stagetest.OK(t, err)
	defer w.Close()
	c := newClient(t, "", path)
	c.sent = make([]int64, 7)
	for _, piece := range []struct {
		text             string
		written, doubled int // so far
	}{
		{"x bench-0000000001@example.com y\nbench-00000", 1, 0},
		{"00002@example.com\n", 2, 0},
		{"bench-12@example.com\nbench-00000x0003@\n\nbench-0000000003@\n", 3, 0},
		{strings.Repeat("bench-0000000004@example.com\n", 5000), 4, 4999},
		{strings.Repeat("x", 300_000) + "\nbench-0000000006@example.com\n", 5, 4999},
		{"bench-0000000007@example.com\nbench-0000000005@example.com", 5, 5000}, // of one that was not sent; and no line yet
	} {
		if _, err := w.WriteString(piece.text); err != nil {
			t.Fatal(err)
		}
		stagetest.Eventually(t, fmt.Sprintf("%.40q: %d lines, %d doubled", piece.text, piece.written, piece.doubled), func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.written == piece.written && c.doubled == piece.doubled
		})
	}
}
