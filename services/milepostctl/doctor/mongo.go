package doctor

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/records"
)

func (x *examination) store(ctx context.Context) {
	const means = "Without the store, the stages db and email pause: nothing is lost, and nothing arrives."
	o := options.Client().ApplyURI(x.Mongo.URI()).SetAppName("milepostctl").
		SetServerSelectionTimeout(x.Timeout).SetConnectTimeout(x.Timeout).SetTimeout(x.Timeout)
	client, err := mongo.Connect(o)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		x.add("mongo answers", Failed, dns.Error(), means, "Correct the host's name in MONGO_URL, or look at DNS.")
		return
	case err != nil && strings.Contains(x.Mongo.URI(), "@"):
		err = errors.New("the driver does not understand its URL") // err may quote the password
		fallthrough
	case err != nil:
		x.add("mongo answers", Failed, err.Error(), means, "Correct MONGO_URL.")
		return
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }() // nothing was written
	db := client.Database(x.Mongo.Database())
	var hello struct {
		LocalTime time.Time `bson:"localTime"`
		Set       string    `bson:"setName"`
		Primary   bool      `bson:"isWritablePrimary"`
		Master    bool      `bson:"ismaster"`
	}
	run := func(command string, into any) error {
		return db.RunCommand(ctx, bson.D{{Key: command, Value: 1}}).Decode(into)
	}
	if err := run("hello", &hello); err != nil {
		x.add("mongo answers", Failed, records.Cause(err).Error(), means, mongoRemedy(ctx, err, o))
		return
	}
	x.times("mongo answers", func() error { return run("ping", &bson.M{}) })
	var build struct {
		Version string `bson:"version"`
	}
	_ = run("buildInfo", &build) // "" is unknown
	x.expect(nil, "mongo version", build.Version, atLeast(build.Version, 4, 4), Failed, "The driver needs MongoDB 4.4 or newer.", "Upgrade MongoDB.")
	role := "accepts writes"
	if hello.Set != "" {
		role += ", replica set " + hello.Set
	}
	if hello.Primary || hello.Master {
		x.add("mongo role", OK, role, "Documents are written with a majority of the replica set, journaled.", "")
	} else {
		x.add("mongo role", Failed, "accepts no writes", "Only the primary accepts writes.", "Name the whole replica set in MONGO_URL; the driver then finds its primary.")
	}
	x.clock("mongo clock", func() (time.Time, error) {
		err := run("hello", &hello)
		return hello.LocalTime, err
	})
	x.index(ctx, db.Collection(records.Collection))
}

func mongoRemedy(ctx context.Context, err error, o *options.ClientOptions) string {
	broken := "If the server wants TLS, set MONGO_TLS_CA."
	if o.TLSConfig != nil {
		broken = "If the server speaks no TLS, unset MONGO_TLS_CA and MONGO_TLS_CERT, and write tls=false in MONGO_URL."
	}
	if change := advice(err, [][2]string{
		{"unknown authority", "MONGO_TLS_CA=<PEM file with the authority that signed the server's certificate>"},
		{"certificate is not valid", "Name the server as its certificate does, in MONGO_URL or MONGO_HOST."},
		{"certificate", "MONGO_TLS_CERT=<PEM file with a client certificate that the server trusts> and MONGO_TLS_KEY=<its key>"},
		{"uthentication", "Correct MONGO_USERNAME and MONGO_PASSWORD, or authSource in MONGO_URL."},
		{"nauthorized", "Correct MONGO_USERNAME and MONGO_PASSWORD, or grant the user readWrite on the database."},
		{"no such host", "Correct the host's name in MONGO_URL or MONGO_HOST, or look at DNS."},
		{"EOF", broken},
	}); change != "" {
		return change
	}
	if o.ReplicaSet == nil || *o.ReplicaSet == "" {
		return "Start it, or name another one with --mongo or MONGO_URL."
	}
	// A server of another set is as if it were not there. Asked alone, it names its own.
	set := *o.ReplicaSet
	alone := *o
	alone.ReplicaSet = nil
	alone.SetHosts(o.Hosts[:1]).SetDirect(true)
	client, err := mongo.Connect(&alone)
	if err != nil {
		return "Correct MONGO_URL."
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }() // nothing was written
	var hello struct {
		Set string `bson:"setName"`
	}
	if err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return "Start it, or name another one with --mongo or MONGO_URL."
	}
	if hello.Set == "" {
		return "The server belongs to no replica set: remove replicaSet=" + set + " from MONGO_URL."
	}
	return "The server's replica set has another name: replicaSet=" + hello.Set + " in MONGO_URL."
}

func (x *examination) index(ctx context.Context, users *mongo.Collection) {
	const means = "Without the index, finding the documents of an address reads the whole collection."
	specs, err := users.Indexes().ListSpecifications(ctx)
	if err != nil {
		x.add("mongo index", Unknown, err.Error(), means, "")
		return
	}
	for _, s := range specs {
		var keys bson.D
		if bson.Unmarshal(s.KeysDocument, &keys) == nil && len(keys) > 1 && keys[0].Key == "email" && keys[1].Key == "submitted_at" {
			x.add("mongo index", OK, s.Name, means, "")
			return
		}
	}
	x.add("mongo index", Warning, "none on email and submitted_at", means, "Start db: it creates the index.")
}
