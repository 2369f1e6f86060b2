package records

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

// connect makes the client, once: the driver asks DNS for the hosts of a mongodb+srv URL as it does
// so, and fails while DNS is away.
func (s *Store) connect() error {
	if s.users.Load() != nil {
		return nil
	}
	o := options.Client().ApplyURI(s.url).SetAppName("milepost")
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
	// A document that another program stored has an object ID, not an event ID.
	o.SetBSONOptions(&options.BSONOptions{ObjectIDAsHexString: true})
	o.SetReadPreference(readpref.Primary()) // a secondary may not have what was just stored
	s.pool.limit(o)
	o.SetPoolMonitor(s.pool.monitor())
	if o.ReplicaSet != nil {
		s.watch.set = *o.ReplicaSet
	}
	o.SetServerMonitor(s.watch.monitor())
	client, err := mongo.Connect(o)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		s.watch.failed(dns)
		return fmt.Errorf("mongo is away: %w", dns)
	case err != nil && strings.Contains(s.url, "@"):
		return errors.New("the driver does not understand the store's URL") // err may quote the password
	case err != nil:
		return fmt.Errorf("the store's URL: %w", err)
	}
	s.limit.Store(int64(*o.Timeout))
	s.users.Store(client.Database(s.database).Collection(Collection))
	return nil
}

// collection blocks until DNS has answered, if it had not yet.
func (s *Store) collection(ctx context.Context) (*mongo.Collection, error) {
	if users := s.users.Load(); users != nil {
		return users, nil
	}
	select {
	case r := <-s.dial.DoChan("", func() (any, error) { return nil, s.connect() }):
		return s.users.Load(), r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
