package stage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// A stage reads greetings and forwards each in capitals.
func ExampleEach() {
	server, err := miniredis.Run() // a real program has a Redis elsewhere
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	broker, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: server.Addr()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()

	shout, err := broker.New(
		stage.Config{Name: "shout", In: "greetings", Out: []stage.Output{{Channel: "shouts"}}},
		stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
			return strings.ToUpper(e.Body), nil
		}))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background()) // a real program stops on SIGTERM
	ended := make(chan error)
	go func() { ended <- shout.Run(ctx) }()

	edge := broker.Publisher("edge", "greetings")
	if _, err := edge.Publish(ctx, stage.Submission{Body: "hello"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(first(server, "shouts"))
	_ = edge.Close()
	stop()
	fmt.Println(<-ended)
	// Output:
	// HELLO
	// <nil>
}

// A batch handler answers for each event on its own.
func ExampleBatch() {
	broker, server, end := pipeline()
	defer end()
	store := stage.Batch(128, func(_ context.Context, in []stage.Event[string]) []stage.Result {
		results := make([]stage.Result, len(in)) // here goes one InsertMany for all of them
		for i, e := range in {
			if e.Body == "" {
				results[i].Err = stage.Permanent(errors.New("nothing to store"))
				continue
			}
			results[i].Out = []stage.Message{stage.To("stored", e.Body+" is stored")}
		}
		return results
	})
	defer run(broker, stage.Config{Name: "store", In: "greetings", Out: []stage.Output{{Channel: "stored"}}}, store)()
	submit(broker, "greetings", "", "hello")
	fmt.Println(first(server, "stored"))
	// Output: hello is stored
}

// A publisher at the edge: a repeat under the same key publishes nothing, and a limit refuses.
func ExamplePublisher() {
	broker, _, end := pipeline()
	defer end()
	edge := broker.Publisher("edge", "greetings")
	defer edge.Close()
	ctx := context.Background()
	limit := stage.Limit{Name: "client 7", Max: 2, Per: time.Hour}
	hello := stage.Submission{Body: "hello", Key: "from the form", Digest: "sha256 of the body", Limits: []stage.Limit{limit}}
	kept, err := edge.Publish(ctx, hello)
	fmt.Println(kept.Repeat, err)
	again, err := edge.Publish(ctx, hello)
	fmt.Println(again.Repeat, again.ID == kept.ID, err)

	hello.Key = ""
	_, err = edge.Publish(ctx, hello)
	fmt.Println(err)
	_, err = edge.Publish(ctx, hello)
	var over *stage.LimitError
	fmt.Println(errors.As(err, &over)) // ErrBacklog and ErrUnavailable also mean: try later
	// Output:
	// false <nil>
	// true true <nil>
	// <nil>
	// true
}

// The error that a handler returns decides what becomes of the entry.
func ExamplePermanent() {
	broker, server, end := pipeline()
	defer end()
	config := stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}, MaxTries: 3, BackoffMin: time.Millisecond}
	defer run(broker, config, stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
		switch {
		case e.Body == "nonsense":
			return "", stage.Permanent(errors.New("makes no sense")) // a dead letter at once
		case e.Body == "refused":
			return "", errors.New("refused") // tried again, and a dead letter after MaxTries
		case e.Body == "busy" && e.Tries == 0:
			return "", stage.RetryAfter(errors.New("too many requests"), 10*time.Millisecond)
		}
		return fmt.Sprintf("%s after %d tries", e.Body, e.Tries), nil
	}))()
	submit(broker, "in", "busy", "nonsense", "refused")
	fmt.Println(first(server, "out"))
	var letters []inspect.DeadLetter
	for ; len(letters) < 2; time.Sleep(time.Millisecond) {
		letters, _ = inspect.New(broker).DeadLetters(context.Background(), "in", "", 10)
	}
	for _, l := range letters {
		fmt.Printf("%s: %s, %d tries\n", l.Payload, l.Error, l.Tries)
	}
	// Output:
	// busy after 1 tries
	// nonsense: makes no sense, 0 tries
	// refused: refused, 3 tries
}

// A test of a whole stage: an embedded Redis, the stage, an event, and a wait for its effect.
func Example_test() {
	TestShout := func(t testing.TB) { // in a test: func TestShout(t *testing.T)
		broker, err := stage.Open(stage.Options{Redis: stagetest.Embedded(t), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		stagetest.OK(t, err)
		var mu sync.Mutex
		var heard []string
		s, err := broker.New(stage.Config{Name: "shout", In: "greetings"},
			stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, strings.ToUpper(e.Body))
				return stage.Nothing{}, nil
			}))
		stagetest.OK(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		t.Cleanup(func() { stop(); <-ended; broker.Close() })

		edge := broker.Publisher("edge", "greetings")
		defer edge.Close()
		if _, err := edge.Publish(t.Context(), stage.Submission{Body: "hello"}); err != nil {
			t.Fatal(err)
		}
		stagetest.Eventually(t, "the greeting is heard", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(heard) == 1 && heard[0] == "HELLO"
		})
	}
	passes(TestShout)
	// Output: ok
}

// pipeline opens a broker on an embedded Redis.
func pipeline() (broker *stage.Broker, server *miniredis.Miniredis, end func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	broker, err = stage.Open(stage.Options{Redis: &redis.Options{Addr: server.Addr()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	return broker, server, func() { broker.Close(); server.Close() }
}

// run runs a stage until stop.
func run(broker *stage.Broker, c stage.Config, h stage.Handler) (stop func()) {
	s, err := broker.New(c, h)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			log.Fatal(err)
		}
	}
}

func submit(broker *stage.Broker, channel string, bodies ...string) {
	edge := broker.Publisher("edge", channel)
	defer edge.Close()
	for _, body := range bodies {
		if _, err := edge.Publish(context.Background(), stage.Submission{Body: body}); err != nil {
			log.Fatal(err)
		}
	}
}

// first waits for the first entry of the channel's stream and returns its payload.
func first(server *miniredis.Miniredis, channel string) string {
	for ; ; time.Sleep(time.Millisecond) {
		if entries, _ := server.Stream(channel); len(entries) > 0 {
			return entries[0].Values[1]
		}
	}
}

// exampleT stands for the *testing.T that an example does not have.
type exampleT struct {
	testing.TB
	cleanup []func()
}

func (t *exampleT) Helper()                        {}
func (t *exampleT) Context() context.Context       { return context.Background() }
func (t *exampleT) Output() io.Writer              { return io.Discard }
func (t *exampleT) Cleanup(f func())               { t.cleanup = append([]func(){f}, t.cleanup...) }
func (t *exampleT) Logf(string, ...any)            {}
func (t *exampleT) Fatal(args ...any)              { log.Fatal(args...) }
func (t *exampleT) Fatalf(format string, a ...any) { log.Fatalf(format, a...) }

func passes(test func(testing.TB)) {
	t := &exampleT{}
	test(t)
	for _, f := range t.cleanup {
		f()
	}
	fmt.Println("ok")
}
