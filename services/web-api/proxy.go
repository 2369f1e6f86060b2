package webapi

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
)

// proxies are the proxies whose headers are believed: X-Forwarded-For, -Host, -Proto, -Port and
// -Prefix, or Forwarded (RFC 7239) where the X-Forwarded- header is missing. A proxy must set or
// remove each of them, since it passes on what a client wrote.
type proxies struct {
	trusted Networks
	log     *slog.Logger
	warned  sync.Once
}

// peer returns the other end of the connection, and whether it is a trusted proxy.
func (p *proxies) peer(r *http.Request) (netip.Addr, bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	a := peer.Addr().Unmap().WithZone("")
	return a, p.trusted.contain(a)
}

// client returns the client's address: the peer of the connection or, if that is a trusted proxy,
// the last address in X-Forwarded-For that is no trusted proxy. A client can forge what stands
// before that address.
func (p *proxies) client(r *http.Request) netip.Addr {
	client, trusted := p.peer(r)
	if !trusted {
		return client
	}
	var hops []string
	if all := r.Header.Values("X-Forwarded-For"); len(all) > 0 {
		hops = strings.Split(strings.Join(all, ","), ",")
	} else {
		hops = forwarded(r.Header, "for")
	}
	for i := len(hops) - 1; i >= 0 && p.trusted.contain(client); i-- {
		hop, ok := hopAddress(hops[i])
		if !ok {
			p.warned.Do(func() {
				p.log.Warn("a proxy's client address cannot be read, so all its visitors share one rate limit", "proxy", client.String(), "address", hops[i])
			})
			break
		}
		client = hop
	}
	return client
}

// hopAddress reads an address as proxies write it, with or without a port.
func hopAddress(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = withPort.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// said returns what a trusted proxy said in the header X-Forwarded-name or, if it is missing, in
// the parameter of Forwarded. Of several values the first counts: the proxy that the browser asked
// wrote it.
func (p *proxies) said(r *http.Request, header, parameter string) string {
	if len(p.trusted) == 0 {
		return ""
	}
	if _, trusted := p.peer(r); !trusted {
		return ""
	}
	if v := r.Header.Get("X-Forwarded-" + header); v != "" {
		first, _, _ := strings.Cut(v, ",")
		return strings.TrimSpace(first)
	}
	if parameter == "" {
		return ""
	}
	if all := forwarded(r.Header, parameter); len(all) > 0 {
		return all[0]
	}
	return ""
}

// site returns the name that the browser asked for, host[:port], and its scheme; "" if unknown.
func (p *proxies) site(r *http.Request) (scheme, host string) {
	if r.TLS != nil {
		scheme = "https"
	}
	if said := p.said(r, "Proto", "proto"); said != "" {
		scheme = strings.ToLower(said)
	}
	host = p.said(r, "Host", "host")
	if host == "" {
		return scheme, r.Host
	}
	if port := p.said(r, "Port", ""); port != "" && !strings.Contains(host[strings.LastIndexByte(host, ']')+1:], ":") {
		host += ":" + port
	}
	return scheme, host
}

// own reports whether a page with this Origin is a page of the site that the request asked for.
func (p *proxies) own(r *http.Request, origin string) bool {
	o, err := url.Parse(origin)
	if err != nil || o.Host == "" {
		return false
	}
	scheme, host := p.site(r)
	if scheme == "" {
		scheme = o.Scheme
	}
	return withPort(scheme, host) == withPort(o.Scheme, o.Host)
}

// withPort returns a host in lower case, with the port that its scheme implies.
func withPort(scheme, host string) string {
	host = strings.ToLower(host)
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := ":80"
	if strings.EqualFold(scheme, "https") {
		port = ":443"
	}
	return host + port
}

// prefix returns the path that a trusted proxy has removed from the front of the request's path.
func (p *proxies) prefix(r *http.Request) string {
	said := p.said(r, "Prefix", "")
	var path BasePath
	if said == "" || path.UnmarshalText([]byte(said)) != nil {
		return ""
	}
	return string(path)
}

// forwarded returns the values of a parameter in the elements of the Forwarded headers, in their
// order.
func forwarded(h http.Header, parameter string) (values []string) {
	for _, line := range h.Values("Forwarded") {
		for line != "" {
			var pair string
			pair, line = cutUnquoted(line)
			name, value, _ := strings.Cut(pair, "=")
			if !strings.EqualFold(strings.TrimSpace(name), parameter) {
				continue
			}
			value = strings.TrimSpace(value)
			if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
				value = strings.ReplaceAll(value[1:n-1], `\`, "")
			}
			values = append(values, value)
		}
	}
	return values
}

// cutUnquoted cuts s at the first comma or semicolon outside quotes.
func cutUnquoted(s string) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case (c == ',' || c == ';') && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
