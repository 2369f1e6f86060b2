//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// foreign is the main of a program that takes the place of one of ours. It uses nothing of this
// repository. It knows only the channels' payloads and the collection.
func foreign(name string) {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("FOREIGN_REDIS")})
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("FOREIGN_MONGO")))
	exitOn(err)
	users := client.Database("milepost").Collection("users")

	stand := map[string]struct {
		in   string
		work func(payload string)
	}{
		"distance": {"raw_input", func(payload string) {
			var in struct{ Email, Lat, Long string }
			exitOn(json.Unmarshal([]byte(payload), &in))
			// Another order than ours, no optional keys, and an unknown key.
			out := fmt.Sprintf(`{"distance_from_velocity": 12.5, "planet": "Earth", "email": %q}`, in.Email)
			exitOn(rdb.Publish(ctx, "calculated_distance", out).Err())
		}},
		"db": {"calculated_distance", func(payload string) {
			var in struct {
				Email string
				Miles float64 `json:"distance_from_velocity"`
			}
			exitOn(json.Unmarshal([]byte(payload), &in))
			_, err := users.InsertOne(ctx, bson.D{{Key: "email", Value: in.Email}, {Key: "distance_from_velocity", Value: in.Miles}})
			exitOn(err)
			exitOn(rdb.Publish(ctx, "user:email", in.Email).Err())
		}},
		"email": {"user:email", func(payload string) {
			var doc struct {
				Miles float64 `bson:"distance_from_velocity"`
			}
			exitOn(users.FindOne(ctx, bson.D{{Key: "email", Value: payload}}).Decode(&doc))
			log, err := os.OpenFile(os.Getenv("FOREIGN_LOG"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			exitOn(err)
			_, err = fmt.Fprintf(log, "00:00:00,000 root INFO Email sent to: %s; Message: You are %v miles from Velocity.\n", payload, doc.Miles)
			exitOn(err)
			exitOn(log.Close())
		}},
	}[name]

	sub := rdb.Subscribe(ctx, stand.in)
	_, err = sub.Receive(ctx)
	exitOn(err)
	fmt.Println("subscribed")
	for {
		m, err := sub.ReceiveMessage(ctx)
		exitOn(err)
		stand.work(m.Payload)
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(1)
	}
}

// foreign starts a foreign program in place of a service and waits until it listens.
func (p *pipeline) foreign(name string) *process.Process {
	p.t.Helper()
	self, err := os.Executable()
	stagetest.OK(p.t, err)
	f := process.New(p.t, "foreign "+name, self)
	f.Env = append(f.Env, "MILEPOST_FOREIGN="+name, "FOREIGN_REDIS="+p.redis.Addr, "FOREIGN_MONGO="+p.mongo, "FOREIGN_LOG="+p.log)
	f.Start()
	f.Says("subscribed")
	return f
}

// TestPromiseChannelsForeignStage replaces one stage after the other by a program that knows
// nothing of streams. There are more submissions than MAX_BACKLOG.
func TestPromiseChannelsForeignStage(t *testing.T) {
	t.Parallel()
	const backlog = 20
	for _, name := range []string{"distance", "db", "email"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t, fmt.Sprintf("MAX_BACKLOG=%d", backlog))
			stranger := p.foreign(name)
			var ours []string
			for _, n := range all {
				if n != name {
					ours = append(ours, n)
				}
			}
			services := p.start(ours...)
			vs := visits("foreign-"+name, 5*backlog)
			p.submit(vs...)
			p.delivered(addresses(vs...)...)
			alive(t, services)
			if !stranger.Running() {
				t.Errorf("the foreign program has ended:\n%s", stranger.Output())
			}
			if miles := p.sent().miles; name == "distance" && miles[vs[0].Email] != "12.5" {
				t.Errorf("%s is told %s miles, want the foreign program's 12.5", vs[0].Email, miles[vs[0].Email])
			}
		})
	}
}

// TestPromiseChannelsForeignStandIn lets a foreign program do the work of a stage for a while. The
// stage's group has kept everything meanwhile and skips it before the stage comes back.
func TestPromiseChannelsForeignStandIn(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	services := p.start(all...)
	distance := services[1]
	before := visits("before", 5)
	p.submit(before...)
	p.delivered(addresses(before...)...)

	distance.Stop()
	stranger := p.foreign("distance")
	during := visits("during", 50)
	p.submit(during...)
	p.delivered(addresses(append(before, during...)...)...)

	stranger.Kill()
	if out := p.must("milepostctl", "group", "skip", "raw_input", "distance", "--yes"); !strings.Contains(out, "skipped 50 entries") {
		t.Errorf("group skip after 50 submissions: %s", out)
	}
	distance.Start()
	distance.Ready()
	after := visits("after", 5)
	p.submit(after...)
	p.delivered(addresses(append(append(before, during...), after...)...)...)
	if miles := p.sent().miles; miles[during[0].Email] != "12.5" || miles[after[0].Email] == "12.5" {
		t.Errorf("miles during and after: %s and %s; want the stand-in's 12.5, then ours", miles[during[0].Email], miles[after[0].Email])
	}
}
