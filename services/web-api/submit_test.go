package webapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

const (
	adaJSON  = `{"email":"ada@example.com","lat":"40.7128","long":-74.0060}`
	adaEntry = `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`
)

// post sends a body with headers, given as name and value in turn.
func post(t testing.TB, base, kind, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("POST", base+"/distance", strings.NewReader(body))
	stagetest.OK(t, err)
	r.Header.Set("Content-Type", kind)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	stagetest.OK(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	stagetest.OK(t, err)
	return resp, string(answer)
}

// accept posts JSON that must be accepted, and returns the event ID.
func accept(t testing.TB, base, body string, headers ...string) (id string, repeat bool) {
	t.Helper()
	resp, answer := post(t, base, typeJSON, body, headers...)
	var made created
	if err := json.Unmarshal([]byte(answer), &made); err != nil || resp.StatusCode != 201 {
		t.Fatalf("POST %s: %d %s", body, resp.StatusCode, answer)
	}
	return made.ID, made.Repeat
}

const formType = "application/x-www-form-urlencoded"

func TestSubmit(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		base, _ := serve(t, openBroker(t, addr), Settings{})

		id, _ := accept(t, base, adaJSON)
		if _, ok := eventID(id); !ok {
			t.Errorf("event ID %q is no UUID", id)
		}
		accept(t, base, `{"email":"User@MU\u0308NCHEN.de","lat":1,"long":2}`)
		resp, page := post(t, base, formType, "email=+User%40xn--mnchen-3ya.de&lat=33.8688+S&long=151,2093")
		if resp.StatusCode != 201 || !strings.Contains(page, "The distance goes to User@münchen.de") {
			t.Errorf("form: %d %s", resp.StatusCode, page)
		}
		if !strings.HasPrefix(resp.Header.Get("Location"), "/events/") {
			t.Errorf("Location %q", resp.Header.Get("Location"))
		}
		resp, answer := post(t, base, formType, "email=eve%40example.com&lat=1&long=2", "Accept", "application/json")
		if resp.StatusCode != 201 || !strings.HasPrefix(answer, `{"id":"`) {
			t.Errorf("form that asks for JSON: %d %s", resp.StatusCode, answer)
		}
		var multi bytes.Buffer
		w := multipart.NewWriter(&multi)
		for name, value := range map[string]string{"email": "kim@example.com", "lat": "3", "long": "4"} {
			stagetest.OK(t, w.WriteField(name, value))
		}
		w.Close()
		if resp, answer := post(t, base, w.FormDataContentType(), multi.String()); resp.StatusCode != 201 {
			t.Errorf("multipart form: %d %s", resp.StatusCode, answer)
		}
		want := []string{
			adaEntry, `{"email":"User@münchen.de","lat":"1","long":"2"}`, `{"email":"User@münchen.de","lat":"-33.8688","long":"151.2093"}`,
			`{"email":"eve@example.com","lat":"1","long":"2"}`, `{"email":"kim@example.com","lat":"3","long":"4"}`,
		}
		if got := entries(t, addr); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("raw_input holds %q; want %q", got, want)
		}
	})
}

func TestRefuse(t *testing.T) {
	addr := stagetest.Embedded(t).Addr
	base, _ := serve(t, openBroker(t, addr), Settings{TrustedOrigins: Origins{"https://friend.example"}})
	const form = "email=ada%40example.com&lat=1&long=2"
	for name, tc := range map[string]struct {
		kind, body string
		headers    []string
		status     int
		says       string
	}{
		"no type":              {"", form, nil, 415, "must be"},
		"another type":         {"text/plain", form, nil, 415, "must be"},
		"huge form":            {formType, "email=" + strings.Repeat("a", maxBody), nil, 413, "more than 65536 bytes"},
		"huge JSON":            {typeJSON, `{"email":"` + strings.Repeat("a", 1<<20) + `"}`, nil, 413, "more than 65536 bytes"},
		"broken form":          {formType, "email=%zz", nil, 400, "not a form"},
		"broken JSON":          {typeJSON, `{"email":`, nil, 400, "unexpected end of JSON input"},
		"two JSON values":      {typeJSON, adaJSON + "{}", nil, 400, "after top-level value"},
		"an array":             {typeJSON, "[]", nil, 400, "not the JSON of a submission"},
		"a number for address": {typeJSON, `{"email":7}`, nil, 400, "email cannot be a number"},
		"no boundary":          {"multipart/form-data", "x", nil, 400, "no boundary"},
		"broken multipart":     {"multipart/form-data; boundary=b", "x", nil, 400, "not a multipart form"},
		"wrong fields, JSON":   {typeJSON, `{"email":"ada","lat":true,"long":null}`, nil, 400, "not the JSON"},
		"wrong fields":         {typeJSON, `{"email":"ada","lat":91}`, nil, 422, `"lat":"latitude \"91\" is not in [-90, 90]"`},
		"line break":           {typeJSON, `{"email":"ada@example.com\r\nBcc: eve@example.com","lat":1,"long":2}`, nil, 422, "forbidden character U+000D"},
		"bidi":                 {formType, "email=a%e2%80%ae%40example.com&lat=1&long=2", nil, 422, "forbidden character U+202E"},
		"long key":             {typeJSON, adaJSON, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 422, "at most 255"},
		"a typo":               {typeJSON, `{"email":"ada@gmail'com","lat":1,"long":2}`, nil, 422, "did you mean a dot?"},
		"another site":         {formType, form, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403, "another site"},
		"another site, JSON":   {typeJSON, adaJSON, []string{"Origin", "https://evil.example"}, 403, "another site"},
		"no origin to be told": {formType, form, []string{"Origin", "null"}, 403, "another site"},
		"compressed":           {formType, form, []string{"Content-Encoding", "gzip"}, 415, `Content-Encoding is "gzip"`},
		"compressed JSON":      {"APPLICATION/JSON; charset=utf-8", adaJSON, []string{"Content-Encoding", "br"}, 415, "must not be encoded"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, answer := post(t, base, tc.kind, tc.body, tc.headers...)
			if resp.StatusCode != tc.status || !strings.Contains(html.UnescapeString(answer), tc.says) {
				t.Errorf("POST of %.60q: %d %s; want %d with %q", tc.body, resp.StatusCode, answer, tc.status, tc.says)
			}
			if strings.HasPrefix(strings.ToLower(tc.kind), typeJSON) != json.Valid([]byte(answer)) {
				t.Errorf("POST of %s is answered %s", tc.kind, answer)
			}
		})
	}
	for _, origin := range []string{base, "https://friend.example"} {
		if resp, answer := post(t, base, formType, form, "Origin", origin); resp.StatusCode != 201 {
			t.Errorf("a post from %s: %d %s", origin, resp.StatusCode, answer)
		}
	}
	if got := entries(t, addr); len(got) != 2 {
		t.Errorf("raw_input holds %q; want the two that were accepted", got)
	}
}

// A body that says that it is too long is refused before any of it has come. One that ends early is
// no submission that is wrong: the connection ends without an answer, so that a proxy tries again.
func TestBodyLength(t *testing.T) {
	base, _ := serve(t, openBroker(t, stagetest.Embedded(t).Addr), Settings{})
	for length, want := range map[int]int{10_000_000_000: 413, 100: 0} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		stagetest.OK(t, err)
		defer conn.Close()
		fmt.Fprintf(conn, "POST /distance HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", typeJSON, length)
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if want == 0 {
			fmt.Fprint(conn, `{"email":`)
			stagetest.OK(t, conn.(*net.TCPConn).CloseWrite())
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if want == 0 && !errors.Is(err, io.ErrUnexpectedEOF) || want != 0 && (err != nil || resp.StatusCode != want) {
			t.Errorf("a POST of %d bytes: %v, %v; want %d, or no answer for 0", length, resp, err, want)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		base, _ := serve(t, openBroker(t, addr), Settings{RateLimit: 3})
		first, repeat := accept(t, base, adaJSON, "Idempotency-Key", "k1")
		if repeat {
			t.Error("the first was called a repeat")
		}
		for range 5 { // more than the rate limit: a repeat is looked up before it
			if id, repeat := accept(t, base, adaJSON, "Idempotency-Key", "k1"); id != first || !repeat {
				t.Errorf("repeat = %s, %v; want %s, true", id, repeat, first)
			}
		}
		// The same in a form is the same submission.
		if resp, answer := post(t, base, formType, "email=ada%40example.com&lat=40.7128&long=-74.0060", "Idempotency-Key", "k1"); resp.StatusCode != 201 || !strings.Contains(answer, first) {
			t.Errorf("repeat as a form: %d %s", resp.StatusCode, answer)
		}
		resp, answer := post(t, base, typeJSON, strings.Replace(adaJSON, "ada", "eve", 1), "Idempotency-Key", "k1")
		if resp.StatusCode != 422 || strings.Contains(answer, first) {
			t.Errorf("the key with another body: %d %s; want 422 without the first one's ID", resp.StatusCode, answer)
		}
		if got := entries(t, addr); len(got) != 1 {
			t.Errorf("raw_input holds %q; want one", got)
		}
	})
}

// TestOneTimeKey: reload, double click and retry of the form never double; a corrected form is
// another submission.
func TestOneTimeKey(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		base, _ := serve(t, openBroker(t, addr), Settings{})
		const form = "email=ada%40example.com&lat=40.7128&long=-74.0060&idempotency_key=once"
		var clicks sync.WaitGroup
		for range 8 {
			clicks.Go(func() {
				if resp, answer := post(t, base, formType, form); resp.StatusCode != 201 {
					t.Errorf("form: %d %s", resp.StatusCode, answer)
				}
			})
		}
		clicks.Wait()
		if resp, answer := post(t, base, formType, form); resp.StatusCode != 201 || !strings.Contains(answer, "submitted before") {
			t.Errorf("reload: %d %s", resp.StatusCode, answer)
		}
		if got := entries(t, addr); len(got) != 1 {
			t.Errorf("raw_input holds %q; want one", got)
		}
		if resp, answer := post(t, base, formType, strings.Replace(form, "ada", "bob", 1)); resp.StatusCode != 201 {
			t.Errorf("corrected form: %d %s", resp.StatusCode, answer)
		}
		if got := entries(t, addr); len(got) != 2 {
			t.Errorf("raw_input holds %q; want two", got)
		}
	})
}

func TestRateLimit(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		var proxies Networks
		stagetest.OK(t, proxies.UnmarshalText([]byte("127.0.0.1")))
		settings := Settings{RateLimit: 3, AddressLimit: 5, TrustedProxies: proxies}
		one, _ := serve(t, openBroker(t, addr), settings)
		two, _ := serve(t, openBroker(t, addr), settings)
		send := func(base, email, client string) *http.Response {
			resp, _ := post(t, base, typeJSON, `{"email":"`+email+`","lat":1,"long":2}`, "X-Forwarded-For", client)
			return resp
		}
		for i, base := range []string{one, two, one} {
			if resp := send(base, "ada@example.com", "198.51.100.1"); resp.StatusCode != 201 {
				t.Fatalf("submission %d: %d", i, resp.StatusCode)
			}
		}
		resp := send(two, "bob@example.com", "198.51.100.1")
		if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != 429 || err != nil || wait < 1 || wait > 60 {
			t.Errorf("the fourth in a minute, at the other replica: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		// One address, from everywhere, however it is written.
		for i, want := range []int{201, 201, 429} {
			client := "198.51.100." + strconv.Itoa(10+i)
			if resp := send(one, []string{"Ada@Example.com", "ADA+1@example.com", "ada+2@EXAMPLE.com"}[i], client); resp.StatusCode != want {
				t.Errorf("submission %d to one address: %d; want %d", 4+i, resp.StatusCode, want)
			}
		}
		if got := entries(t, addr); len(got) != 5 {
			t.Errorf("raw_input holds %d; want 5", len(got))
		}
		rdb := stagetest.Client(t, &redis.Options{Addr: addr})
		for _, key := range rdb.Keys(context.Background(), "*").Val() {
			if strings.Contains(strings.ToLower(key), "ada@") {
				t.Errorf("key %q holds an address", key)
			}
		}
	})
}

// postJSON is a request as a program makes it.
func postJSON(body string) *http.Request {
	r := httptest.NewRequest("POST", "/distance", strings.NewReader(body))
	r.Header.Set("Content-Type", typeJSON)
	return r
}

// TestBacklog: over MAX_BACKLOG a submission is refused, and says so. TestPages has the page.
func TestBacklog(t *testing.T) {
	w := do(siteOn(t, &fake{err: stage.ErrBacklog}, Settings{}).handler(), postJSON(adaJSON))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "too many submissions are waiting") {
		t.Errorf("%d, Retry-After %q, %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}

// TestTrack: progress is recorded for pages, and for JSON only where it asks.
func TestTrack(t *testing.T) {
	for r, want := range map[*http.Request]bool{
		postJSON(adaJSON): false, postJSON(strings.Replace(adaJSON, "{", `{"track":true,`, 1)): true,
		postForm("email", "ada@example.com", "lat", "1", "long", "2"): true,
	} {
		f := &fake{receipt: stage.Receipt{ID: someID}}
		if w := do(siteOn(t, f, Settings{}).handler(), r); w.Code != 201 || f.got[0].Track != want {
			t.Errorf("%s: %d, published %+v; want it tracked: %v", r.Header.Get("Content-Type"), w.Code, f.got, want)
		}
	}
}

// FuzzForm: whatever a form holds, the answer is one of ours, an accepted submission is right,
// and nothing that was typed comes back as markup.
func FuzzForm(f *testing.F) {
	for _, seed := range [][2]string{
		{formType, "email=ada%40example.com&lat=40.7128&long=-74.0060"},
		{formType, "email=ada%40example.com&lat=40.7128%C2%B0+N%2C+74.0060%C2%B0+W&long="},
		{formType, "email=%3Cscript%3Ealert(1)%3C%2Fscript%3E&lat=%00&long=%ff"},
		{formType, "email=%zz&&&=;"},
		{typeJSON, adaJSON},
		{typeJSON, `{"email":"a@b","lat":1e400,"long":{},"track":"<script>"}`},
		{"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nada@example.com\r\n--b--\r\n"},
		{"text/plain", "<script>"},
	} {
		f.Add(seed[0], seed[1])
	}
	pipeline := &fake{receipt: stage.Receipt{ID: someID}}
	h := siteOn(f, pipeline, Settings{}).handler()
	f.Fuzz(func(t *testing.T, kind, body string) {
		pipeline.got = nil
		r := httptest.NewRequest("POST", "/distance", strings.NewReader(body))
		r.Header["Content-Type"] = []string{kind}
		w := do(h, r)
		switch w.Code {
		case 201:
			if len(pipeline.got) != 1 {
				t.Fatalf("%q was answered 201 and published %d times", body, len(pipeline.got))
			}
			sub := pipeline.got[0].Body.(event.Submission)
			if err := sub.Validate(); err != nil {
				t.Errorf("%q was published as %+v: %v", body, sub, err)
			}
		case 400, 413, 415, 422:
			if len(pipeline.got) != 0 {
				t.Errorf("%q was answered %d and published", body, w.Code)
			}
		default:
			t.Errorf("%q as %q: status %d", body, kind, w.Code)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), typeHTML) && strings.Count(w.Body.String(), "<script") > 1 {
			t.Errorf("%q came back as markup: %s", body, w.Body)
		}
	})
}
