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

// hello is what MongoDB says of itself.
type hello struct {
	LocalTime time.Time `bson:"localTime"`
	Set       string    `bson:"setName"`
	Primary   bool      `bson:"isWritablePrimary"`
	Master    bool      `bson:"ismaster"`
}

// mongo checks the store.
func (x *examination) mongo(ctx context.Context) {
	if x.Mongo == nil {
		x.add("mongo", "The store keeps a document for each submission.", answer{Unknown, "not asked", "Name it with --mongo or MONGO_URL to check it."})
		return
	}
	away := func(found, change string) {
		x.add("mongo answers", "Without the store, the stages db and email pause: nothing is lost, and nothing arrives.", answer{Failed, found, change})
	}
	o := options.Client().ApplyURI(x.Mongo.URI()).SetAppName("milepostctl").
		SetServerSelectionTimeout(x.Timeout).SetConnectTimeout(x.Timeout).SetTimeout(x.Timeout)
	client, err := mongo.Connect(o)
	if err != nil {
		var dns *net.DNSError
		switch {
		case errors.As(err, &dns):
			away(dns.Error(), "Correct the host's name in MONGO_URL, or look at DNS.")
		case strings.Contains(x.Mongo.URI(), "@"): // err may quote the password
			away("the driver does not understand its URL", "Correct MONGO_URL.")
		default:
			away(err.Error(), "Correct MONGO_URL.")
		}
		return
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }() // nothing was written
	db := client.Database(x.Mongo.Database())
	run := func(command string, into any) error {
		return db.RunCommand(ctx, bson.D{{Key: command, Value: 1}}).Decode(into)
	}
	var h hello
	if err := run("hello", &h); err != nil {
		away(records.Cause(err).Error(), mongoRemedy(err, o))
		return
	}
	x.quick("mongo answers", func() error { return run("ping", &bson.M{}) })
	var build struct{ Version string }
	_ = run("buildInfo", &build) // "" is unknown
	x.add("mongo version", "The driver needs MongoDB 4.4 or newer.", judge(build.Version, version(build.Version) >= 4004, Failed, "Upgrade MongoDB."))
	role := answer{Failed, "accepts no writes", "Name the whole replica set in MONGO_URL; the driver then finds its primary."}
	if h.Primary || h.Master {
		role = answer{OK, strings.TrimSuffix("accepts writes, replica set "+h.Set, ", replica set "), ""}
	}
	x.add("mongo role", "Documents are written with a majority of the replica set, journaled. Only its primary accepts writes.", role)
	x.clock("mongo clock", func() (time.Time, error) {
		err := run("hello", &h)
		return h.LocalTime, err
	})
	x.add("mongo index", "Without the index, finding the documents of an address reads the whole collection.", index(ctx, db.Collection(records.Collection)))
}

func index(ctx context.Context, users *mongo.Collection) answer {
	specs, err := users.Indexes().ListSpecifications(ctx)
	if err != nil {
		return answer{Unknown, err.Error(), ""}
	}
	for _, s := range specs {
		var keys bson.D
		if bson.Unmarshal(s.KeysDocument, &keys) == nil && len(keys) > 1 && keys[0].Key == "email" && keys[1].Key == "submitted_at" {
			return answer{OK, s.Name, ""}
		}
	}
	return answer{Warning, "none on email and submitted_at", "Start db: it creates the index."}
}

func mongoRemedy(err error, o *options.ClientOptions) string {
	broken, start := "If the server wants TLS, set MONGO_TLS_CA.", "Start it, or name another one with --mongo or MONGO_URL."
	if o.TLSConfig != nil {
		broken = "If the server speaks no TLS, unset MONGO_TLS_CA and MONGO_TLS_CERT, and write tls=false in MONGO_URL."
	}
	if o.ReplicaSet != nil { // a server of another set is as if it were not there
		start += " If it runs and belongs to another replica set or none, correct or remove replicaSet=" + *o.ReplicaSet + " from MONGO_URL."
	}
	return advice(err, [][2]string{
		{"unknown authority", "MONGO_TLS_CA=<PEM file with the authority that signed the server's certificate>"},
		{"certificate is not valid", "Name the server as its certificate does, in MONGO_URL or MONGO_HOST."},
		{"certificate", "MONGO_TLS_CERT=<PEM file with a client certificate that the server trusts> and MONGO_TLS_KEY=<its key>"},
		{"uthentication", "Correct MONGO_USERNAME and MONGO_PASSWORD, or authSource in MONGO_URL."},
		{"nauthorized", "Correct MONGO_USERNAME and MONGO_PASSWORD, or grant the user readWrite on the database."},
		{"no such host", "Correct the host's name in MONGO_URL or MONGO_HOST, or look at DNS."},
		{"EOF", broken},
		{"", start},
	})
}
