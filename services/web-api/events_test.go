package webapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/processtest"
)

// reader reads a progress stream.
type reader struct {
	t     testing.TB
	resp  *http.Response
	lines *bufio.Scanner
	seen  map[string]step // the latest by event ID and stage
}

// openStream asks for a stream that must be given; it is closed when the test ends.
func openStream(t testing.TB, url string) *reader {
	t.Helper()
	resp := get(t, url, typeStream)
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != typeStream {
		t.Fatalf("GET %s: %d %s; want a stream", url, resp.StatusCode, kind)
	}
	return newReader(t, resp)
}

func newReader(t testing.TB, resp *http.Response) *reader {
	return &reader{t, resp, bufio.NewScanner(resp.Body), map[string]step{}}
}

// get asks for a type. It closes the body when the test ends, and the connection after two minutes.
func get(t testing.TB, url, accept string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	stagetest.OK(t, err)
	r.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(r)
	stagetest.OK(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// step reads on to the next step. ok is false at the end of the stream.
func (r *reader) step() (s step, ok bool) {
	for r.lines.Scan() {
		data, isData := strings.CutPrefix(r.lines.Text(), "data: ")
		if !isData {
			continue
		}
		if err := json.Unmarshal([]byte(data), &s); err != nil {
			r.t.Fatalf("step %q: %v", data, err)
		}
		r.seen[s.ID+" "+s.Stage] = s
		return s, true
	}
	return step{}, false
}

// until reads on until the stage has reported of the event.
func (r *reader) until(id, name string) step {
	r.t.Helper()
	for {
		if s, ok := r.seen[id+" "+name]; ok {
			return s
		}
		if _, ok := r.step(); !ok {
			r.t.Fatalf("the stream ended before %s reported of %s: %v", name, id, r.lines.Err())
		}
	}
}

// measure runs a stage in the place of distance until the test ends. It waits for leave before
// each event.
func measure(t testing.TB, b *stage.Broker, leave <-chan struct{}) {
	t.Helper()
	processtest.Stage(t, b, stage.Config{Name: "distance", In: event.RawInput, Out: []stage.Output{{Channel: event.CalculatedDistance}}},
		stage.Each(func(ctx context.Context, e stage.Event[event.Submission]) (event.Result, error) {
			select {
			case <-leave:
			case <-ctx.Done():
				return event.Result{}, ctx.Err()
			}
			return event.Result{Email: e.Body.Email, Miles: 12, Lat: e.Body.Lat, Long: e.Body.Long}, nil
		}))
}

const tracked = `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060","track":true}`

func TestStream(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := openBroker(t, addr)
		base, stop := serve(t, b, Settings{})
		leave := make(chan struct{})
		measure(t, b, leave)
		mine, _ := accept(t, base, tracked)
		other, _ := accept(t, base, tracked)
		stranger, _ := accept(t, base, tracked)

		all := openStream(t, base+"/events?ids="+mine+","+other)
		all.until(mine, Name) // what was known before
		all.until(other, Name)
		one := openStream(t, base+"/events/"+mine)
		one.until(mine, Name)

		leave <- struct{}{} // what happens now
		leave <- struct{}{}
		leave <- struct{}{}
		s := one.until(mine, "distance")
		if string(s.Detail) != `{"miles":12}` || s.State != "done" || s.At.IsZero() {
			t.Errorf("step of distance = %+v", s)
		}
		all.until(mine, "distance")
		all.until(other, "distance")
		// Once more, from another process: a stream starts with all that is known.
		stop()
		if _, ok := all.step(); ok {
			t.Error("the stream goes on after the server has stopped")
		}
		for which := range all.seen {
			if strings.HasPrefix(which, stranger) {
				t.Errorf("the stream of %s and %s told of %s", mine, other, which)
			}
		}
		again, _ := serve(t, openBroker(t, addr), Settings{})
		openStream(t, again+"/events?ids="+mine+"&ids="+other).until(other, "distance")

		var j journey
		stagetest.OK(t, json.NewDecoder(get(t, again+"/events/"+mine, "*/*").Body).Decode(&j))
		if j.ID != mine || j.State != underWay || len(j.Steps) != 2 {
			t.Errorf("as JSON: %+v; want two steps, under way", j)
		}
		var list struct{ Events []journey }
		unknown := "01a1fc5b-0000-71ea-a26d-032c3e935701"
		stagetest.OK(t, json.NewDecoder(get(t, again+"/events?ids="+unknown+","+other, typeJSON).Body).Decode(&list))
		if len(list.Events) != 1 || list.Events[0].ID != other {
			t.Errorf("list as JSON: %+v; want %s alone", list, other)
		}
	})
}

// TestUntracked: an event nobody watches leaves no progress, and nothing is known of it.
func TestUntracked(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		base, _ := serve(t, openBroker(t, addr), Settings{})
		id, _ := accept(t, base, adaJSON)
		for _, accept := range []string{typeStream, typeJSON, typeHTML} {
			if resp := get(t, base+"/events/"+id, accept); resp.StatusCode != 404 {
				t.Errorf("GET as %s: %d; want 404", accept, resp.StatusCode)
			}
		}
	})
}

func TestEventsRefused(t *testing.T) {
	h := siteOn(t, &fake{}, Settings{}).handler()
	var many []string
	for i := range maxIDs + 1 {
		many = append(many, fmt.Sprintf("01a1fc5b-e734-71ea-a26d-%012d", i))
	}
	for path, want := range map[string]int{
		"/events":                                 400,
		"/events?ids=":                            400,
		"/events?ids=1":                           400,
		"/events?ids=" + strings.Join(many, ","):  400,
		"/events?ids=" + someID + ",%0d%0ax":      400,
		"/events/1":                               404,
		"/events/" + someID:                       404,
		"/events/urn:uuid:" + someID:              404,
		"/events/" + strings.ToUpper(someID)[:35]: 404,
	} {
		if w := do(h, httptest.NewRequest("GET", path, nil)); w.Code != want {
			t.Errorf("GET %s: %d; want %d", path, w.Code, want)
		}
	}
	away := siteOn(t, &fake{err: stage.ErrUnavailable}, Settings{}).handler()
	if w := do(away, httptest.NewRequest("GET", "/events/"+someID, nil)); w.Code != 503 {
		t.Errorf("GET of an event without Redis: %d; want 503", w.Code)
	}
}

// TestStreamLimit: a client may hold so many streams, and no more than it still holds.
func TestStreamLimit(t *testing.T) {
	f := &fake{steps: []stage.Step{stepAt(0, Name, "done", "")}}
	s := siteOn(t, f, Settings{StreamLimit: 2})
	server := httptest.NewServer(s.handler())
	defer server.Close()
	defer s.stop()
	url := server.URL + "/events?ids=" + someID
	first := openStream(t, url)
	openStream(t, url)
	if resp := get(t, url, typeStream); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third stream: %d; want 429 with Retry-After", resp.StatusCode)
	}
	first.resp.Body.Close()
	stagetest.Eventually(t, "a slot is free again", func() bool { return get(t, url, typeStream).StatusCode == 200 })
}

// TestHeartbeat: a stream on which nothing happens shows that it is there.
func TestHeartbeat(t *testing.T) {
	s := siteOn(t, &fake{}, Settings{})
	s.heartbeat = time.Millisecond
	server := httptest.NewServer(s.handler())
	defer server.Close()
	defer s.stop()
	r := openStream(t, server.URL+"/events?ids="+someID)
	for beats := 0; beats < 3; {
		if !r.lines.Scan() {
			t.Fatalf("the stream ended: %v", r.lines.Err())
		}
		if strings.HasPrefix(r.lines.Text(), ":") {
			beats++
		}
	}
}

// TestStopAnswers: a request that is under way when the server stops is answered.
func TestStopAnswers(t *testing.T) {
	addr := stagetest.Real(t).Addr
	base, stop := serve(t, openBroker(t, addr), Settings{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	stagetest.OK(t, err)
	defer conn.Close()
	answer := bufio.NewReader(conn)
	expect := func(status string) {
		t.Helper()
		if line, err := answer.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+status) {
			t.Fatalf("the server says %q, %v; want %s", line, err, status)
		}
	}
	fmt.Fprintf(conn, "POST /distance HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", typeJSON, len(adaJSON))
	expect("100") // the handler has begun to read
	if _, err := answer.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	stagetest.Eventually(t, "the server takes no more", func() bool {
		_, err := http.Get(base + "/")
		return err != nil
	})
	if _, err := conn.Write([]byte(adaJSON)); err != nil {
		t.Fatal(err)
	}
	expect("201")
	<-stopped
	if got := entries(t, addr); len(got) != 1 {
		t.Errorf("raw_input holds %q; want one", got)
	}
}
