package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/FerretDB/FerretDB/ferretdb"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// A store with a private authority that wants a certificate of its clients, as the environment
// describes it.
func TestStoreWithTLS(t *testing.T) {
	c := stagetest.NewCertificates(t)
	port := stagetest.FreePort(t)
	db, err := ferretdb.New(&ferretdb.Config{
		Listener: ferretdb.ListenerConfig{TLS: fmt.Sprintf("127.0.0.1:%d", port), TLSCertFile: c.Cert, TLSKeyFile: c.Key, TLSCAFile: c.CA},
		Handler:  "sqlite", SQLiteURL: "file:" + t.TempDir() + "/", Logger: quiet,
	})
	stagetest.OK(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = db.Run(ctx) }() // it always returns nil
	t.Cleanup(func() { cancel(); <-ended })
	for name, tc := range map[string]struct {
		env  map[string]string
		says string
	}{
		"all of it":         {env: map[string]string{"MONGO_TLS_CA": c.CA, "MONGO_TLS_CERT": c.Cert, "MONGO_TLS_KEY": c.Key}},
		"no certificate":    {env: map[string]string{"MONGO_TLS_CA": c.CA}, says: "certificate required"},
		"unknown authority": {env: map[string]string{"MONGO_URL": fmt.Sprintf("mongodb://127.0.0.1:%d/?tls=true", port)}, says: "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.env["MONGO_PORT"] = fmt.Sprint(port)
			var m config.Mongo
			stagetest.OK(t, config.Load(func(name string) string { return tc.env[name] }, &m))
			s := open(t, m.URI())
			if tc.says == "" {
				mustInsert(t, s, record(1))
				return
			}
			stagetest.Eventually(t, "Ready says "+tc.says, func() bool {
				err := s.Ready()
				return err != nil && strings.Contains(err.Error(), tc.says)
			})
		})
	}
}

// The hosts of a mongodb+srv URL are asked for until DNS answers.
func TestStoreWaitsForDNS(t *testing.T) {
	store := startStore(t, t.TempDir())
	_, port, _ := net.SplitHostPort(strings.Trim(strings.TrimPrefix(store.URL(), "mongodb://"), "/"))
	var up atomic.Bool
	name := serveDNS(t, port)
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if !up.Load() {
			return nil, errors.New("the network is down")
		}
		return (&net.Dialer{Resolver: before}).DialContext(ctx, "udp", name)
	}}
	s := open(t, "mongodb+srv://store.milepost.test/?tls=false")
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "lookup _mongodb._tcp.store.milepost.test") {
		t.Errorf("Ready = %v, want the look-up", err)
	}
	if err := errors.Join(s.InsertMany(t.Context(), []records.Record{record(1)})...); !records.Down(err) {
		t.Errorf("InsertMany = %v, want an outage", err)
	}
	up.Store(true)
	stagetest.Eventually(t, "the store is there once DNS answers", func() bool { return s.Ready() == nil })
	mustInsert(t, s, record(1))
}

// serveDNS answers for store.milepost.test, whose server listens on port of the loopback address.
func serveDNS(t *testing.T, port string) (addr string) {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	stagetest.OK(t, err)
	t.Cleanup(func() { _ = l.Close() })
	var n uint16
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 1500)
		for {
			size, from, err := l.ReadFrom(b)
			if err != nil {
				return // closed
			}
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
			switch q.Type {
			case dnsmessage.TypeSRV:
				m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.SRVResource{Port: n, Target: dnsmessage.MustNewName("a.milepost.test.")}}}
			case dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = l.WriteTo(answer, from)
			}
		}
	}()
	return l.LocalAddr().String()
}
