package program_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestStatusPage: the page is on the admin port where STATUS_PAGE is on, and nothing of it is
// elsewhere.
func TestStatusPage(t *testing.T) {
	for value, want := range map[string]int{"on": http.StatusOK, "off": http.StatusNotFound, "": http.StatusNotFound} {
		redis := "redis://" + stagetest.Embedded(t).Addr
		opened, address := make(chan struct{}), ""
		url, stop := start(t, map[string]string{"STATUS_PAGE": value}, func(ctx context.Context, _ small, p *program.Process) error {
			b, err := p.Open(config.Broker{Redis: config.Redis{RedisURL: config.RedisURL(redis)}})
			if err != nil {
				return err
			}
			defer b.Close()
			address = p.StatusPage
			close(opened)
			<-ctx.Done()
			return nil
		})
		<-opened
		for _, path := range []string{"/", "/status", "/status.json"} {
			status, body := get(t, url+path)
			if status != want || status == http.StatusNotFound && !strings.Contains(body, "STATUS_PAGE=on") {
				t.Errorf("GET %s with STATUS_PAGE=%s: %d %.100q; want %d", path, value, status, body, want)
			}
		}
		if on := address == url+"/"; on != (want == http.StatusOK) {
			t.Errorf("the program with STATUS_PAGE=%s takes its page to be at %q; it is at %s", value, address, url)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}
