package webapi

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// clientName returns the name that a client's limits are counted under: its IPv4 address, or the
// /64 of its IPv6 address, since one household or machine commonly has a whole /64.
func clientName(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// slots limits what each client may hold open in this process.
type slots struct {
	max  Quota
	mu   sync.Mutex
	used map[string]int
}

// take reserves a slot for a client; release gives it back. If the client has used all, the error
// is one to answer with: it says why, and when to try again.
func (s *slots) take(c echo.Context, client string, again time.Duration, why string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.max > 0 && s.used[client] >= int(s.max) {
		retryAfter(c, again)
		return nil, echo.NewHTTPError(http.StatusTooManyRequests, why)
	}
	if s.used == nil {
		s.used = map[string]int{}
	}
	s.used[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.used[client]--; s.used[client] == 0 {
			delete(s.used, client)
		}
	}, nil
}
