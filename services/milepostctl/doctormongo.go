package milepostctl

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/records"
)

// store checks the document store.
func (x *examination) store(ctx context.Context, c config.Mongo, patience time.Duration) {
	const means = "Without the store, the stages db and email pause: nothing is lost, and nothing arrives."
	unusable := func(err error) {
		if strings.Contains(c.URI(), "@") {
			err = errors.New("the driver does not understand its URL") // err may quote the password
		}
		x.add("mongo answers", failed, err.Error(), means, "Correct MONGO_URL.")
	}
	client, err := mongo.Connect(options.Client().ApplyURI(c.URI()).SetAppName("milepostctl").
		SetServerSelectionTimeout(patience).SetConnectTimeout(patience).SetTimeout(patience))
	if err != nil {
		unusable(err)
		return
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }() // nothing was written
	db := client.Database(c.Database())
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
		x.add("mongo answers", failed, err.Error(), means, "Start it, or name another one with --mongo or MONGO_URL.")
		return
	}
	x.times("mongo answers", func() error { return run("ping", &bson.M{}) })
	var build struct {
		Version string `bson:"version"`
	}
	_ = run("buildInfo", &build) // "" is unknown
	x.expect(nil, "mongo version", build.Version, atLeast(build.Version, 4, 4), failed, "The driver needs MongoDB 4.4 or newer.", "Upgrade MongoDB.")
	role := "accepts writes"
	if hello.Set != "" {
		role += ", replica set " + hello.Set
	}
	if hello.Primary || hello.Master {
		x.add("mongo role", fine, role, "Documents are written with a majority of the replica set, journaled.", "")
	} else {
		x.add("mongo role", failed, "accepts no writes", "Only the primary accepts writes.", "Name the whole replica set in MONGO_URL; the driver then finds its primary.")
	}
	x.clock("mongo clock", func() (time.Time, error) {
		err := run("hello", &hello)
		return hello.LocalTime, err
	})
	x.index(ctx, db.Collection(records.Collection))
}

// index looks for the index on the address.
func (x *examination) index(ctx context.Context, users *mongo.Collection) {
	const means = "Without the index, finding the documents of an address reads the whole collection."
	specs, err := users.Indexes().ListSpecifications(ctx)
	if err != nil {
		x.add("mongo index", unknown, err.Error(), means, "")
		return
	}
	for _, s := range specs {
		var keys bson.D
		if bson.Unmarshal(s.KeysDocument, &keys) == nil && len(keys) > 1 && keys[0].Key == "email" && keys[1].Key == "submitted_at" {
			x.add("mongo index", fine, s.Name, means, "")
			return
		}
	}
	x.add("mongo index", warning, "none on email and submitted_at", means, "Start db: it creates the index.")
}
