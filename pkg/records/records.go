// Package records keeps submissions in MongoDB, each as a document of the collection "users". Its
// _id is the event ID, so inserting an event twice stores it once. The package uses only what both
// MongoDB and FerretDB v1.24 (the embedded store of standalone) have.
package records

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"golang.org/x/sync/singleflight"

	"github.com/milepost/milepost/pkg/event"
)

// Record is a stored submission. The store keeps times to the millisecond and returns them in UTC.
type Record struct {
	ID          string    `bson:"_id"` // event ID
	Email       string    `bson:"email"`
	Mailbox     string    `bson:"mailbox,omitempty"` // see [event.Address.Mailbox]; "" if it is Email
	Miles       float64   `bson:"distance_from_velocity"`
	Lat         string    `bson:"lat,omitempty"`
	Long        string    `bson:"long,omitempty"`
	SubmittedAt time.Time `bson:"submitted_at"`
	StoredAt    time.Time `bson:"stored_at"`
}

const Collection = "users"

// distance is the name of Record.Miles in a document.
const distance = "distance_from_velocity"

// durable makes a write wait until a majority of the store's members has it in its journal.
var durable = func() *writeconcern.WriteConcern {
	journaled := true
	return &writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journaled}
}()

// Time limits. The URL may set others: timeoutMS, connectTimeoutMS, serverSelectionTimeoutMS.
const (
	callTimeout    = 10 * time.Second
	connectTimeout = 5 * time.Second // a heartbeat's too
	selectTimeout  = 3 * time.Second
	pingTimeout    = 2 * time.Second
)

// Store is the collection of records. Its methods are safe for concurrent use. Each blocks until
// the store answers, ctx ends or 10 s have passed. It is a [prometheus.Collector] of its pool.
type Store struct {
	url, database string
	dial          singleflight.Group
	users         atomic.Pointer[mongo.Collection] // nil until DNS has told the hosts
	single        lookup
	watch         *watch
	limit         atomic.Int64 // of a call, in ns; 0 for none
	*pool
}

// limited ends ctx after the store's time limit. The driver applies its limit only to a context
// without a deadline. A handler's context has one, so a call on a dead connection would block until
// the handler times out.
func (s *Store) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := time.Duration(s.limit.Load())
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// Open prepares a client for the store at url (mongodb://…). It does not connect; an error says
// what is wrong with url. The hosts of a mongodb+srv URL are looked up in DNS, and again by each
// call until DNS answers. It has at most size connections; 0 means maxPoolSize of the URL, or else
// 100. The caller closes the store.
func Open(url, database string, size int) (*Store, error) {
	s := &Store{url: url, database: database, pool: newPool(size), watch: newWatch()}
	s.limit.Store(int64(callTimeout))
	if err := s.connect(); err != nil && !errors.As(err, new(*net.DNSError)) {
		return nil, err
	}
	return s, nil
}

// Close closes the connections. Calls under way end with an error.
func (s *Store) Close(ctx context.Context) error {
	if users := s.users.Load(); users != nil {
		return users.Database().Client().Disconnect(ctx)
	}
	return nil
}

// Ping returns nil if the store accepts writes. It blocks for 2 s at most.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	users, err := s.collection(ctx)
	if err == nil {
		err = users.Database().Client().Ping(ctx, readpref.Primary())
	}
	if err != nil {
		return fmt.Errorf("mongo: %w", Cause(err))
	}
	return nil
}

// of selects the records of the mailbox that email names.
func of(email string) bson.D {
	mailbox := event.Address(email).Mailbox()
	which := bson.A{bson.D{{Key: "email", Value: mailbox}}, bson.D{{Key: "mailbox", Value: mailbox}}}
	if email != mailbox { // as stored by a program that does not know mailboxes
		which = append(which, bson.D{{Key: "email", Value: email}})
	}
	return bson.D{{Key: "$or", Value: which}}
}

// Newest returns the record of email's mailbox that was submitted last, and false if there is none.
// A document without a distance, which another program must have stored, counts as none.
func (s *Store) Newest(ctx context.Context, email string) (Record, bool, error) {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	users, err := s.collection(ctx)
	if err != nil {
		return Record{}, false, err
	}
	var r Record
	found := users.FindOne(ctx, of(email), options.FindOne().SetSort(bson.D{{Key: "submitted_at", Value: -1}}))
	doc, err := found.Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Record{}, false, nil
	}
	if err == nil {
		if _, ok := doc.Lookup(distance).AsFloat64OK(); !ok {
			return Record{}, false, nil
		}
		err = found.Decode(&r)
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("find newest record of an address: %w", err)
	}
	return r, true, nil
}
