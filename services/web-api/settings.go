package webapi

import (
	"errors"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/milepost/milepost/pkg/config"
)

// Settings configure the HTTP edge, from the environment (see [config.Load], which sets the
// defaults). The zero Settings limits nothing and trusts nobody.
type Settings struct {
	Listen         config.Address `env:"LISTEN" envDefault:"127.0.0.1:8000" help:"address of the page"`
	RateLimit      Quota          `env:"RATE_LIMIT" envDefault:"60" help:"submissions a minute per client (IPv6: per /64), or off"`
	AddressLimit   Quota          `env:"ADDRESS_LIMIT" envDefault:"60" help:"submissions an hour per email address, or off"`
	StreamLimit    Quota          `env:"STREAM_LIMIT" envDefault:"32" help:"open progress streams per client in one process, or off"`
	TrustedProxies Networks       `env:"TRUSTED_PROXIES" help:"addresses and networks of proxies whose X-Forwarded-For, -Host, -Proto and -Prefix or Forwarded are believed, such as 10.0.0.0/8,192.0.2.1"`
	TrustedOrigins Origins        `env:"TRUSTED_ORIGINS" help:"origins other than this site whose pages may post and read answers, such as https://example.com"`
	BasePath       BasePath       `env:"BASE_PATH" help:"path that the page is published under, such as /milepost, whether or not a proxy removes it; unset: /, or what a trusted proxy says in X-Forwarded-Prefix"`
}

// Quota is a maximum; zero means no limit.
type Quota int

// UnmarshalText reads a number or "off".
func (q *Quota) UnmarshalText(b []byte) error {
	if strings.EqualFold(string(b), "off") {
		*q = 0
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil || n == 0 {
		return errors.New("is not a whole number of at least 1, or off")
	}
	*q = Quota(n)
	return nil
}

type Networks []netip.Prefix

// UnmarshalText reads addresses and networks, separated by commas or blanks.
func (n *Networks) UnmarshalText(b []byte) error {
	*n = nil
	for _, word := range words(string(b)) {
		prefix, err := netip.ParsePrefix(word)
		if err != nil {
			addr, err := netip.ParseAddr(word)
			if err != nil || addr.Zone() != "" {
				return errors.New("is not a list of addresses and networks such as 10.0.0.0/8,192.0.2.1")
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		*n = append(*n, prefix.Masked())
	}
	return nil
}

func (n Networks) contain(a netip.Addr) bool {
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Origins are web origins, scheme://host[:port].
type Origins []string

// UnmarshalText reads origins, separated by commas or blanks.
func (o *Origins) UnmarshalText(b []byte) error {
	*o = nil
	for _, word := range words(string(b)) {
		word = strings.ToLower(strings.TrimSuffix(word, "/"))
		if err := http.NewCrossOriginProtection().AddTrustedOrigin(word); err != nil {
			return errors.New("is not a list of origins such as https://example.com,http://localhost:3000")
		}
		*o = append(*o, word)
	}
	return nil
}

// has reports whether origin is one of them, with or without the port that its scheme implies.
func (o Origins) has(origin string) bool {
	full := func(origin string) string {
		scheme, host, _ := strings.Cut(origin, "://")
		return scheme + "://" + withPort(scheme, host)
	}
	return slices.ContainsFunc(o, func(trusted string) bool { return full(trusted) == full(origin) })
}

// BasePath is a path without its last slash; "" is the root.
type BasePath string

func (p *BasePath) UnmarshalText(b []byte) error {
	path := strings.TrimRight(string(b), "/")
	if path != "" && (!plainPath.MatchString(path) || strings.Contains(path, "/.")) {
		return errors.New("is not a path such as /milepost")
	}
	*p = BasePath(path)
	return nil
}

var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+){1,8}$`)

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
