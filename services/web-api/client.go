package webapi

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
)

// clientAddress returns the client's address: the peer of the connection or, if that is a trusted
// proxy, the last address in X-Forwarded-For that is no trusted proxy. A client can forge what
// stands before that address.
func clientAddress(r *http.Request, trusted Networks) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted.contain(client); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		client = hop.Unmap().WithZone("")
	}
	return client
}

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
