// Command newservice writes a service that joins the pipeline, and removes it again: a package with
// a handler, a main and a test, and its lines in the files of compose, the chart and Prometheus.
// `make new-service` and `make remove-service` call it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func main() {
	var s spec
	flag.StringVar(&s.Root, "root", ".", "folder of the repository")
	flag.StringVar(&s.Name, "name", "", "name of the service")
	flag.StringVar(&s.From, "from", "", "the channel it reads")
	flag.StringVar(&s.To, "to", "", "the channel it publishes on; none if empty")
	remove := flag.Bool("remove", false, "remove the service, and retire its group if REDIS_URL or REDIS_HOST is set")
	flag.Parse()
	do := add
	if *remove {
		do = take
	}
	text, err := do(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "newservice:", err)
		os.Exit(1) // make ends with 2
	}
	fmt.Println(text)
}

func add(s spec) (string, error) {
	w, err := write(s)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("Wrote:\n  %s\nAdded the service to:\n  %s\n", strings.Join(w.files, "\n  "), strings.Join(slices.Sorted(maps.Keys(lists)), "\n  "))
	return text + fmt.Sprintf(`
Fill in:    Handle in %s
Test it:    go test ./services/%[2]s/...
Run it:     REDIS_URL=redis://127.0.0.1:6390 go run ./services/%[2]s/cmd/%[2]s    (beside `+"`make run`"+`)
Remove it:  make remove-service NAME=%[2]s`, w.handle, s.Name), nil
}

// take retires the group of the service, if the environment names a Redis, and removes the service.
func take(s spec) (string, error) {
	channel, err := channelOf(s)
	if err != nil {
		return "", err
	}
	group := fmt.Sprintf("Retire its group, or entries are kept for it:\n  milepostctl group retire %s %s", cmp.Or(channel, "CHANNEL"), s.Name)
	if channel != "" && os.Getenv("REDIS_URL")+os.Getenv("REDIS_HOST") != "" {
		switch err := retire(channel, s.Name); {
		case errors.Is(err, inspect.ErrAlive):
			return "", fmt.Errorf("nothing is removed: %w; stop them first", err)
		case errors.Is(err, stage.ErrNotFound):
			group = fmt.Sprintf("%s had no group %s.", channel, s.Name)
		case err != nil:
			return "", fmt.Errorf("nothing is removed: %w", err)
		default:
			group = fmt.Sprintf("Retired group %s of %s.", s.Name, channel)
		}
	}
	changed, err := remove(s)
	return fmt.Sprintf("Removed services/%s, and its lines in:\n  %s\n%s", s.Name, strings.Join(changed, "\n  "), group), err
}

// retire ends the group in the Redis of the environment. It refuses while a consumer is alive.
func retire(channel, group string) error {
	var env config.Redis
	if err := config.Load(os.Getenv, &env); err != nil {
		return err
	}
	broker, err := stage.Open(stage.Options{Redis: env.Options(), Prefix: string(env.KeyPrefix)})
	if err != nil {
		return err
	}
	defer func() { _ = broker.Close() }() // the script has answered
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return inspect.New(broker).Retire(ctx, channel, group)
}
