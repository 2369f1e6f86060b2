// Package records keeps submissions in MongoDB: one document of the collection "users" for each, whose _id is the
// event ID, so that inserting an event again finds its own document. It uses only what MongoDB and FerretDB v1.24
// (the embedded store of standalone) both have.
package records

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// Record is one submission as it is stored. Times are kept to the millisecond and come back in UTC.
type Record struct {
	ID          string    `bson:"_id"` // event ID
	Email       string    `bson:"email"`
	Miles       float64   `bson:"distance_from_velocity"`
	Lat         string    `bson:"lat,omitempty"`
	Long        string    `bson:"long,omitempty"`
	SubmittedAt time.Time `bson:"submitted_at"`
	StoredAt    time.Time `bson:"stored_at"`
}

// Collection is the collection that holds the records.
const Collection = "users"

// distance is the name of Record.Miles in a document.
const distance = "distance_from_velocity"

// durable is what a write waits for: a majority of the store's members has it in its journal.
var durable = func() *writeconcern.WriteConcern {
	journaled := true
	return &writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journaled}
}()

// How long the store may take, unless the URL says otherwise (timeoutMS, connectTimeoutMS, serverSelectionTimeoutMS).
const (
	callTimeout    = 10 * time.Second
	connectTimeout = 5 * time.Second // a heartbeat's too
	selectTimeout  = 3 * time.Second
	pingTimeout    = 2 * time.Second
)

// Store is the collection of records. Its methods are safe for concurrent use, and each waits for the store at most as
// long as ctx and the store's own time limit (10 s) allow.
type Store struct {
	client *mongo.Client
	users  *mongo.Collection
	single lookup
	watch  *watch
	limit  time.Duration // of a call; 0 for none
}

// Open prepares a client for the store at url (mongodb://…) and waits for nothing: the store need not be there yet. An
// error says what is wrong with url. The caller closes the store.
func Open(url, database string) (*Store, error) { return OpenPool(url, database, nil) }

// OpenPool is Open with the connections of pool, which may be nil.
func OpenPool(url, database string, pool *Pool) (*Store, error) {
	o := options.Client().ApplyURI(url).SetAppName("milepost")
	if o.Timeout == nil {
		o.SetTimeout(callTimeout)
	}
	if o.ConnectTimeout == nil {
		o.SetConnectTimeout(connectTimeout)
	}
	if o.ServerSelectionTimeout == nil {
		o.SetServerSelectionTimeout(selectTimeout)
	}
	o.SetWriteConcern(durable)
	// A document that a foreign program stored has an object ID, not an event's.
	o.SetBSONOptions(&options.BSONOptions{ObjectIDAsHexString: true})
	o.SetReadPreference(readpref.Primary()) // a secondary may not have what was just stored
	if pool != nil {
		pool.limit(o)
		o.SetPoolMonitor(pool.monitor())
	}
	w := newWatch()
	o.SetServerMonitor(w.monitor())
	client, err := mongo.Connect(o)
	if err != nil && strings.Contains(url, "@") {
		return nil, errors.New("the store's URL is not one that the driver understands") // err may quote the password
	}
	if err != nil {
		return nil, fmt.Errorf("the store's URL: %w", err)
	}
	return &Store{client: client, users: client.Database(database).Collection(Collection), watch: w, limit: *o.Timeout}, nil
}

// Close closes the connections. Calls under way end with an error.
func (s *Store) Close(ctx context.Context) error { return s.client.Disconnect(ctx) }

// Ping is nil if the store is there and takes writes. It waits 2 s at most.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := s.client.Ping(ctx, readpref.Primary()); err != nil {
		return fmt.Errorf("mongo: %w", err)
	}
	return nil
}

// Newest returns the record of email that was submitted last, and false if there is none. One of somebody else's making that
// has no distance counts as none, since it would read as 0 miles.
func (s *Store) Newest(ctx context.Context, email string) (Record, bool, error) {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	var r Record
	found := s.users.FindOne(ctx, bson.D{{Key: "email", Value: email}}, options.FindOne().SetSort(bson.D{{Key: "submitted_at", Value: -1}}))
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
