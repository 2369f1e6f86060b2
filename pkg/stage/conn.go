package stage

import (
	"context"
	"crypto/tls"
	"net"
)

// member is a connection to a master, or an attempt at one.
type member struct {
	addr string // "" while it is not known
	stop func()
}

// connect connects to addr, with TLS if t is not nil.
func connect(ctx context.Context, network, addr string, t *tls.Config) (net.Conn, error) {
	d := &net.Dialer{Timeout: callTimeout}
	if t != nil {
		return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, network, addr)
	}
	return d.DialContext(ctx, network, addr)
}

// anyServer is t for servers that others name: each needs a certificate for its own address. It is
// nil if t is.
func anyServer(t *tls.Config) *tls.Config {
	if t != nil {
		t = t.Clone()
		t.ServerName = ""
	}
	return t
}

// closing is conn, and calls left when it is closed.
func closing(conn net.Conn, left func()) net.Conn {
	if c, ok := conn.(*tls.Conn); ok {
		return tlsConn{c, left}
	}
	return tcpConn{conn.(*net.TCPConn), left}
}

// tcpConn and tlsConn tell when they are closed. They keep what a client asks beside net.Conn.
type tcpConn struct {
	*net.TCPConn
	left func()
}

func (c tcpConn) Close() error { c.left(); return c.TCPConn.Close() }

type tlsConn struct {
	*tls.Conn
	left func()
}

func (c tlsConn) Close() error { c.left(); return c.Conn.Close() }
