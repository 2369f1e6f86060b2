// Command ports fails if an address that standalone will listen on is taken. `make run` asks it
// before it compiles for minutes. It needs only the standard library.
package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
)

func main() {
	if errs := taken(os.Getenv); len(errs) > 0 {
		for _, err := range errs {
			fmt.Fprintln(os.Stderr, "make run:", err)
		}
		os.Exit(1)
	}
}

func taken(getenv func(string) string) (errs []error) {
	for _, a := range []struct{ variable, standard, instead string }{
		{"LISTEN", "127.0.0.1:8000", ""},
		{"ADMIN_LISTEN", "127.0.0.1:9110", ""},
		{"EMBEDDED_REDIS", "127.0.0.1:6390", "REDIS_URL"},
		{"EMBEDDED_MONGO", "127.0.0.1:27390", "MONGO_URL"},
	} {
		addr := cmp.Or(getenv(a.variable), a.standard)
		if _, _, err := net.SplitHostPort(addr); err != nil || a.instead != "" && getenv(a.instead) != "" {
			continue // standalone takes more forms of addresses, or does not listen
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w; is it already running? Stop it, or set %s to another address", a.variable, err, a.variable))
			continue
		}
		_ = l.Close() // it was only tried
	}
	return errs
}
