// Command receipts writes a receipt for each order.
package main

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
)

type order struct{ Cents int }

type receipt struct {
	Order string // event ID
	Cents int
}

func write(_ context.Context, e stage.Event[order]) (receipt, error) {
	if e.Body.Cents <= 0 {
		return receipt{}, stage.Permanent(errors.New("an order costs something")) // a dead letter
	}
	return receipt{e.ID, e.Body.Cents}, nil // acked and forwarded, in one script
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	broker, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: os.Args[1]}, Log: slog.Default()})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	s, err := broker.New(stage.Config{Name: "receipts", In: "orders", Out: []stage.Output{{Channel: "receipts", Unread: true}}}, stage.Each(write))
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Run(ctx); err != nil { // until SIGTERM; it finishes what it holds
		log.Fatal(err)
	}
}
