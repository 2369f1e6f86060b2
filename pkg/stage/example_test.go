package stage_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/redis/go-redis/v9"
)

// A whole stage: it reads greetings, shouts each, and forwards what it shouted.
func ExampleEach() {
	server, err := miniredis.Run() // a real program names its Redis instead
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	broker, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: server.Addr()}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()

	shout, err := broker.New(stage.Config{Name: "shout", In: "greetings", Out: []stage.Output{{Channel: "shouts"}}},
		stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
			return strings.ToUpper(e.Body), nil
		}))
	if err != nil {
		log.Fatal(err)
	}
	show(broker, shout, "hello")
	// Output: HELLO
}

// A batch handler gets what has gathered, and answers for each event on its own.
func ExampleBatch() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	broker, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: server.Addr()}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()

	store, err := broker.New(stage.Config{Name: "store", In: "greetings", Out: []stage.Output{{Channel: "shouts"}}},
		stage.Batch(128, func(_ context.Context, in []stage.Event[string]) []stage.Result {
			results := make([]stage.Result, len(in)) // one InsertMany for all of them would stand here
			for i, e := range in {
				if e.Body == "" {
					results[i].Err = stage.Permanent(fmt.Errorf("event %s: nothing to store", e.ID))
					continue
				}
				results[i].Out = []stage.Message{stage.To("shouts", e.Body+" is stored")}
			}
			return results
		}))
	if err != nil {
		log.Fatal(err)
	}
	show(broker, store, "hello")
	// Output: hello is stored
}

// show runs the stage, submits one greeting, and prints what arrives at the other end.
func show(broker *stage.Broker, s *stage.Stage, greeting string) {
	ctx, cancel := context.WithCancel(context.Background())
	printed := make(chan struct{})
	end, err := broker.New(stage.Config{Name: "end", In: "shouts"},
		stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			fmt.Println(e.Body)
			close(printed)
			return stage.Nothing{}, nil
		}))
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 2)
	for _, x := range []*stage.Stage{s, end} {
		go func() { ended <- x.Run(ctx) }()
	}
	edge := broker.Publisher("edge", "greetings")
	if _, err := edge.Publish(ctx, stage.Submission{Body: greeting}); err != nil {
		log.Fatal(err)
	}
	<-printed
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			log.Fatal(err)
		}
	}
	_ = edge.Close()
}
