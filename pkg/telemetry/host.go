package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/milepost/milepost/pkg/config"
)

// HostGuard refuses requests for names that are not the server's own. Its methods are safe for
// concurrent use.
type HostGuard struct {
	Hosts config.Hosts
	Log   *slog.Logger

	mu     sync.Mutex
	warned map[string]bool
}

const maxWarned = 20 // names; anyone can invent more

// Allow reports whether a request for host is to be answered. It logs each refused name once.
func (g *HostGuard) Allow(host string) bool {
	if g.Hosts.Allow(host) {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.warned) < maxWarned && !g.warned[host] {
		if g.warned == nil {
			g.warned = map[string]bool{}
		}
		g.warned[host] = true
		g.Log.Warn("requests for a name that is not in ALLOWED_HOSTS are refused", "name", host)
	}
	return false
}

func HostRefused(host string) string {
	return fmt.Sprintf("this server does not answer to the name %q; if it is its name, add it to ALLOWED_HOSTS", host)
}

// Handler answers requests for other names with 421, and gives all others to next.
func (g *HostGuard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.Allow(r.Host) {
			text(w, http.StatusMisdirectedRequest, HostRefused(r.Host)+"\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}
