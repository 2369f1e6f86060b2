package records_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/milepost/milepost/pkg/records"
)

// server answers as a mongod would: the handshake by itself, other commands as the test says. The
// embedded store cannot say most of what a mongod says when things go wrong.
type server struct {
	t     *testing.T
	addr  string
	reply func(command string, doc bson.Raw) bson.D

	mu       sync.Mutex
	commands []bson.Raw
}

// serve starts a server for the time of the test and opens a store over it.
func serve(t *testing.T, reply func(command string, doc bson.Raw) bson.D) (*server, *records.Store) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: l.Addr().String(), reply: reply}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				for s.answer(c) == nil {
				}
			})
		}
	})
	store, err := records.Open("mongodb://"+s.addr+"/?serverMonitoringMode=poll&retryReads=false&retryWrites=false", "milepost", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = store.Close(context.Background())
		_ = l.Close()
		conns.Wait()
	})
	return s, store
}

// The two kinds of message that the driver sends, and the flag of a section that is one document.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
const (
	opReply, opQuery, opMsg = 1, 2004, 2013
	header                  = 16
)

// answer reads one message and replies to it.
func (s *server) answer(c net.Conn) error {
	head := make([]byte, header)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	le := binary.LittleEndian
	body := make([]byte, le.Uint32(head)-header)
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	kind, doc := le.Uint32(head[12:]), bson.Raw(nil)
	switch kind {
	case opQuery: // flags, a name that ends with 0, two numbers, the document
		rest := body[4:]
		for rest[0] != 0 {
			rest = rest[1:]
		}
		doc = rest[1+8:]
	case opMsg: // flags, then a section of kind 0; one of kind 1 with documents may follow or come first
		for rest := body[4:]; len(rest) > 0; {
			size := 1 + le.Uint32(rest[1:])
			if rest[0] == 0 {
				doc = bson.Raw(rest[1:size])
			}
			rest = rest[size:]
		}
	}
	elements, err := doc.Elements()
	if err != nil || len(elements) == 0 {
		s.t.Errorf("the driver sent %x", body)
		return io.ErrUnexpectedEOF
	}
	reply := bson.D{{Key: "ok", Value: 1}}
	switch command := elements[0].Key(); command {
	case "hello", "isMaster", "ismaster":
		reply = bson.D{
			{Key: "ok", Value: 1}, {Key: "helloOk", Value: true}, {Key: "isWritablePrimary", Value: true}, {Key: "ismaster", Value: true},
			{Key: "maxBsonObjectSize", Value: 16 << 20}, {Key: "maxMessageSizeBytes", Value: 48_000_000}, {Key: "maxWriteBatchSize", Value: 100_000},
			{Key: "minWireVersion", Value: 0}, {Key: "maxWireVersion", Value: 21},
		}
	case "endSessions":
	default:
		s.mu.Lock()
		s.commands = append(s.commands, doc)
		s.mu.Unlock()
		reply = s.reply(command, doc)
	}
	raw, err := bson.Marshal(reply)
	if err != nil {
		s.t.Errorf("marshal reply: %v", err)
		return err
	}
	out := make([]byte, header, header+20+len(raw))
	copy(out[8:], head[4:8]) // in response to
	if kind == opQuery {
		le.PutUint32(out[12:], opReply)
		out = append(out, make([]byte, 16)...) // flags, cursor, start
		out = le.AppendUint32(out, 1)
	} else {
		le.PutUint32(out[12:], opMsg)
		out = append(out, 0, 0, 0, 0, 0)
	}
	out = append(out, raw...)
	le.PutUint32(out, uint32(len(out)))
	_, err = c.Write(out)
	return err
}

// seen are the commands that came, but for handshakes.
func (s *server) seen() []bson.Raw {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands
}
