package stage

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestJoinAgain: a consumer that Redis has forgotten, and whose first attempt to join again finds no Redis, joins with a
// later one.
func TestJoinAgain(t *testing.T) {
	server := stagetest.Real(t)
	b, err := Open(Options{Redis: server.Options(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s, err := b.New(Config{Name: "again", In: "in"}, Each(func(context.Context, Event[string]) (Nothing, error) { return Nothing{}, nil }))
	if err != nil {
		t.Fatal(err)
	}
	s.gate.open(starting, "")
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	joined := make(chan error, 1)
	go func() {
		_, err := s.join(ctx, false)
		joined <- err
	}()
	for s.Ready() == nil {
		time.Sleep(time.Millisecond)
	}
	server.Start()
	if err := <-joined; err != nil {
		t.Fatalf("join with a Redis that came back: %v", err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("Ready() after joining = %v", err)
	}
}
