package program_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// A program that is told to stop says so at once, and with STOP_DELAY still takes requests for that
// time, each on a connection that is closed after it.
func TestStopDelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stagetest.OK(t, err)
	const delay = time.Second
	url, stop := start(t, map[string]string{"STOP_DELAY": delay.String()}, func(ctx context.Context, _ small, p *program.Process) error {
		return program.Serve(ctx, l, p.Admin.Observe(http.NotFoundHandler(), nil), p.Log)
	})
	ask := func() (closes bool) {
		t.Helper()
		resp, err := http.Get("http://" + l.Addr().String())
		stagetest.OK(t, err)
		_ = resp.Body.Close()
		return resp.Close
	}
	if ask() {
		t.Error("a program that runs closes connections")
	}
	begin, stopped := time.Now(), make(chan error, 1)
	go func() { stopped <- stop() }()
	stagetest.Eventually(t, "/readyz says stopping", func() bool {
		_, report := get(t, url+"/readyz")
		return strings.HasSuffix(report, "stopping\n")
	})
	if time.Since(begin) < delay/2 && !ask() { // a machine that is this late proves nothing
		t.Error("a program that stops keeps connections open")
	}
	if err := <-stopped; err != nil {
		t.Errorf("the program ended with %v", err)
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("the program ended after %s, want %s at least", took, delay)
	}
}
