package milepostctl

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/processtest"
)

// A page that is not ready at first and emails at once; others' emails come in between.
func TestCheck(t *testing.T) {
	stagetest.Both(t, checked)
	t.Run("cluster", func(t *testing.T) { checked(t, stagetest.ShardedOf(t, 3, false).Servers[0].Options()) })
	nowhere := &redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))}
	if s := runTool(t, nowhere, "", "check", "--within", "1s"); s.code == ExitOK || strings.Count(s.err, "connection refused") != 2 || !strings.Contains(s.err, "; trying again") {
		t.Errorf("check without Redis: %s; want the reason once while it tries, and at the end", s)
	}
	for _, args := range [][]string{{"check", "--url", "x"}, {"check", "--within", "0s"}, {"check", "more"}} {
		if s := runTool(t, nil, "", args...); s.code != ExitUsage {
			t.Errorf("milepostctl %q: %s; want exit status %d", args, s, ExitUsage)
		}
	}
}

func checked(t *testing.T, o *redis.Options) {
	b := processtest.Broker(t, o)
	if err := b.Ping(t.Context()); err != nil { // web-api's start
		t.Fatal(err)
	}
	pub := b.Publisher("test", event.EmailSent)
	defer pub.Close()
	edge := b.Publisher("web-api", event.RawInput)
	defer edge.Close()
	const id = "018f0000-0000-7000-8000-000000000007"
	var calls atomic.Int64
	var key atomic.Pointer[string]
	lost := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		this := r.Header.Get("Idempotency-Key")
		if first := key.Swap(&this); this == "" || first != nil && *first != this && !lost {
			t.Errorf("idempotency key %q after %v; want the same one in each try", this, first)
		}
		var s event.Submission
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil || s.Validate() != nil {
			t.Errorf("submission %+v: %v", s, err)
		}
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for _, sent := range []string{"018f0000-0000-7000-8000-000000000001", id} {
			if lost && sent == id {
				continue
			}
			if _, err := pub.Publish(context.Background(), stage.Submission{ID: sent, Body: event.Sent{ID: sent, Email: s.Email, Miles: 1}}); err != nil {
				t.Error(err)
			}
		}
		if _, err := edge.Publish(context.Background(), stage.Submission{ID: id, Track: true, Body: s}); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":%q}`, id)
	}))
	defer server.Close()
	s := runTool(t, o, "", "check", "--url", server.URL+"/", "--within", "30s")
	if s.code != ExitOK || !strings.HasPrefix(s.out, id+" was emailed ") || !strings.Contains(s.err, "503 Service Unavailable; trying again") || calls.Load() != 2 {
		t.Errorf("check of a page that answers at the second try, after %d: %s", calls.Load(), s)
	}
	lost = true
	if s := runTool(t, o, "", "check", "--url", server.URL, "--within", "700ms"); s.code != ExitError || !strings.Contains(s.err, "no email for event "+id) {
		t.Errorf("check of a pipeline that loses: %s", s)
	}
	foreign := stagetest.Embedded(t)
	if s := runTool(t, foreign, "", "check", "--url", server.URL, "--within", "30s"); s.code != ExitError || !strings.Contains(s.err, "uses another Redis than "+foreign.Addr) {
		t.Errorf("check of another pipeline's page: %s", s)
	}
	server.Close()
	if s := runTool(t, o, "", "check", "--url", server.URL, "--within", "1s"); s.code != ExitError || strings.Count(s.err, "connection refused") != 2 {
		t.Errorf("check of nobody: %s; want the reason once while it tries, and at the end", s)
	}
}
