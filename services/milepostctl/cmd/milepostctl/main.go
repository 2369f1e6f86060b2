// Command milepostctl publishes, listens and looks after a pipeline from the command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
	"golang.org/x/term"

	"github.com/milepost/milepost/services/milepostctl"
)

func main() {
	logging.Disable() // the client would repeat the tool's errors
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	world := milepostctl.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Terminal: term.IsTerminal(int(os.Stdin.Fd()))}
	os.Exit(milepostctl.Main(ctx, os.Args[1:], world))
}
