package webapi

import (
	"net/netip"
	"sync"
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

// take reserves a slot for the client; release gives it back. Not ok: the client has used all.
func (s *slots) take(client string) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.max > 0 && s.used[client] >= int(s.max) {
		return nil, false
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
	}, true
}
