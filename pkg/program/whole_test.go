package program_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/milepost/milepost/pkg/program"
)

type countingListener struct {
	net.Listener
	writes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// An answer arrives complete, whatever its length, and one of a known length leaves in one write.
// Around 4,096 bytes with its headers, nothing waits for a rest that does not come.
func TestServeWhole(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var writes atomic.Int64
	all := []byte(strings.Repeat("0123456789abcdef", 10_000))
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- program.Serve(ctx, countingListener{l, &writes}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.FormValue("n"))
			if r.FormValue("known") != "" {
				w.Header().Set("Content-Length", strconv.Itoa(n))
			}
			_, _ = w.Write(all[:n]) // the client looks
		}), slog.New(slog.DiscardHandler))
	}()
	lengths := []int{0, 1, 3000, 4096, 4220, 8192, 20_000, len(all)}
	for n := 3900; n < 4100; n++ { // with the headers, one of them is exactly 4,096
		lengths = append(lengths, n)
	}
	for _, known := range []string{"", "1"} {
		for _, n := range lengths {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				writes.Store(0)
				r, _ := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+"/?n="+strconv.Itoa(n)+"&known="+known, nil)
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatalf("%s of %d bytes: %v", method, n, err)
				}
				got, err := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				want := all[:n]
				if method == http.MethodHead {
					want = nil
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s of %d bytes, length known: %q: %d bytes, %v", method, n, known, len(got), err)
				}
				if w := writes.Load(); known != "" && n <= 20_000 && w != 1 {
					t.Errorf("%s of %d bytes left in %d writes, want 1", method, n, w)
				}
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
