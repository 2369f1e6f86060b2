// Package milepostctl is the command-line tool of a pipeline: it publishes, listens, looks at channels and groups, and
// deals with dead letters. It needs the pipeline's Redis and nothing else.
package milepostctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
)

// Exit codes of the tool.
const (
	ExitOK       = 0
	ExitError    = 1 // it was tried and did not work
	ExitUsage    = 2 // the command line or a variable is wrong; nothing was tried
	ExitNotFound = 3 // what was named does not exist
	ExitAway     = 4 // Redis cannot be reached, or is not ready
	ExitFindings = 5 // doctor or status --check found something wrong
)

// IO is what the tool has of the world.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Terminal bool // a person is at In and can be asked

	// Screen is the size of the terminal that Out is, in characters; nil if it is none.
	Screen func() (width, height int)
}

// Main runs the tool with the arguments after its name and returns its exit code.
func Main(ctx context.Context, args []string, world IO) int {
	t := &tool{IO: world}
	root := t.root()
	root.SetArgs(args)
	root.SetIn(world.In)
	root.SetOut(world.Out)
	root.SetErr(world.Err)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return ExitError // interrupted; nothing to explain
	}
	fmt.Fprintf(world.Err, "milepostctl: %v\n", err)
	var variable *config.VariableError
	switch {
	case errors.Is(err, stage.ErrUnavailable), errors.Is(err, stage.ErrCluster):
		fmt.Fprintf(world.Err, "Redis was asked at %s. Start it, or name another one with --redis or REDIS_URL; `make run` has one at redis://127.0.0.1:6390.\n", t.where())
		return ExitAway
	case errors.Is(err, stage.ErrNotFound):
		return ExitNotFound
	case errors.Is(err, errFindings):
		return ExitFindings
	case errors.As(err, &variable), errors.Is(err, errUsage), !t.started:
		fmt.Fprintf(world.Err, "See `%s --help`.\n", cmd.CommandPath())
		return ExitUsage
	}
	return ExitError
}

// errUsage marks a command line that was found to make no sense after it was read.
var errUsage = errors.New("wrong usage")

// errFindings marks the end of a command that did its work and found something wrong.
var errFindings = errors.New("something is wrong")

type usage string

func (u usage) Error() string        { return string(u) }
func (u usage) Is(target error) bool { return target == errUsage }

// needs refuses another number of arguments than the named ones.
func needs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(names[len(args)] + " is missing")
		}
		if len(args) > len(names) {
			return usage(fmt.Sprintf("unexpected argument %q", args[len(names)]))
		}
		return nil
	}
}

// tool is one run of the tool.
type tool struct {
	IO
	redisURL string
	output   string
	timeout  time.Duration

	options *redis.Options
	started bool // the command line was understood
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "milepostctl",
		Short: "Publish, listen and look after a pipeline on Redis channels",
		Long: `milepostctl publishes events, listens to channels, shows how far each stage is, finds an event, and lists, replays or
drops dead letters. It talks to the pipeline's Redis; doctor and find also ask MongoDB, if MONGO_URL or MONGO_HOST is set.

On call: status says what is wrong, find where an event is and why, dead replay brings it back, doctor looks at settings.

Redis is found by --redis, else REDIS_URL, else REDIS_HOST and REDIS_PORT, else 127.0.0.1:6379.

Exit status: 0 done; 1 tried, and it did not work; 2 wrong command line or variable; 3 no such event, dead letter, group or
channel; 4 Redis cannot be reached; 5 doctor or status --check found something wrong.`,
		Example: `  milepostctl --redis redis://127.0.0.1:6390 status
  milepostctl publish raw_input '{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}'
  milepostctl listen
  milepostctl find 01a1fcf2-c249-787c-93ac-7be164ea854e
  milepostctl dead list --output json | jq .error
  source <(milepostctl completion bash)`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: t.prepare,
		// Without these, a wrong word ends in a page of help and success.
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&t.redisURL, "redis", "", "URL of the pipeline's Redis, such as redis://127.0.0.1:6390 (default: REDIS_URL)")
	f.StringVarP(&t.output, "output", "o", "text", "text for people, json for programs (one object a line)")
	f.DurationVar(&t.timeout, "timeout", 10*time.Second, "how long Redis may take to answer")
	root.AddCommand(t.publish(), t.listen(), t.dead(), t.status(), t.find(), t.doctor(), t.group(), t.claim(), t.check(), t.load(), t.newService(), t.removeService())
	return root
}

// prepare reads what all commands need, before any of them starts.
func (t *tool) prepare(*cobra.Command, []string) error {
	if t.output != "text" && t.output != "json" {
		return fmt.Errorf("--output: %q is not one of text, json", t.output)
	}
	if t.timeout <= 0 {
		return fmt.Errorf("--timeout: %s is not a time to wait, such as 10s", t.timeout)
	}
	var env config.Redis
	if t.redisURL != "" {
		if err := env.RedisURL.UnmarshalText([]byte(t.redisURL)); err != nil {
			return fmt.Errorf("--redis: %q %w", config.Mask(t.redisURL), err)
		}
	} else if err := config.Load(t.Getenv, &env); err != nil {
		return err
	}
	t.options = env.Options()
	t.started = true
	return nil
}

// where is the Redis that is used, without credentials.
func (t *tool) where() string { return fmt.Sprintf("%s, database %d", t.options.Addr, t.options.DB) }

// called is how the tool was called, for the commands that it tells.
func (t *tool) called() string {
	if t.redisURL == "" {
		return "milepostctl"
	}
	return operate.Tool(t.options)
}

// open opens the broker for f and closes it. What f returns is wrapped with nothing: its errors speak for themselves.
func (t *tool) open(ctx context.Context, f func(context.Context, *stage.Broker) error) error {
	broker, err := stage.Open(stage.Options{Redis: t.options, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, broker), broker.Close())
}

// with is open for what must be over within --timeout.
func (t *tool) with(ctx context.Context, f func(context.Context, *stage.Broker) error) error {
	return t.open(ctx, func(ctx context.Context, b *stage.Broker) error { return t.timed(ctx, b, f) })
}

func (t *tool) timed(ctx context.Context, b *stage.Broker, f func(context.Context, *stage.Broker) error) error {
	call, cancel := context.WithTimeoutCause(ctx, t.timeout, fmt.Errorf("%w: no answer within %s", stage.ErrUnavailable, t.timeout))
	defer cancel()
	err := f(call, b)
	if errors.Is(err, context.DeadlineExceeded) {
		err = cmp.Or(context.Cause(call), err)
	}
	return err
}
