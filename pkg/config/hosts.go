package config

import (
	"errors"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// Hosts are the names that a server answers to, beside localhost, the names below it and all IP
// addresses. A page of another site can let its own name lead to this server (DNS rebinding), but
// the browser still sends that name.
type Hosts []string

var hostName = regexp.MustCompile(`^(\*|(\*?\.)?[\p{L}\p{N}_-]+(\.[\p{L}\p{N}_-]+)*)$`)

// UnmarshalText reads names, separated by commas or blanks.
func (h *Hosts) UnmarshalText(b []byte) error {
	*h = nil
	for _, word := range strings.FieldsFunc(strings.ToLower(string(b)), func(r rune) bool { return r == ',' || r == ' ' }) {
		if name, port, err := net.SplitHostPort(word); err == nil && strings.Trim(port, "0123456789") == "" {
			word = name
		}
		if _, err := netip.ParseAddr(strings.Trim(word, "[]")); err == nil {
			continue // every address is allowed
		}
		if word = strings.TrimSuffix(word, "."); !hostName.MatchString(word) {
			return errors.New("is not a list of names such as example.com,.example.org (the names below it), or * for any name")
		}
		if strings.HasPrefix(word, "*.") {
			word = word[1:]
		}
		*h = append(*h, word)
	}
	return nil
}

// Allow reports whether a request for host, with or without a port, is to be answered. The empty
// host of HTTP/1.0 is: browsers send one.
func (h Hosts) Allow(host string) bool {
	if host == "" {
		return true
	}
	name := host
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		name = host[:i]
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")); err == nil {
		return true
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	for _, allowed := range h {
		if allowed == "*" || allowed == name || allowed[0] == '.' && strings.HasSuffix(name, allowed) {
			return true
		}
	}
	return false
}
