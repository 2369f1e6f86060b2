package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

// Version is the program's version. The build sets it with
// -ldflags "-X github.com/milepost/milepost/pkg/program.Version=v1.2.3".
var Version = ""

// ErrUsage is wrapped by the error of a wrong command line.
var ErrUsage = errors.New("see --help")

// Process is what Run gets beside the configuration.
type Process struct {
	Name   string
	Log    *slog.Logger
	Admin  *telemetry.Admin
	Stdout io.Writer

	StatusPage string       // URL of the status page, "" if it is off
	Hosts      config.Hosts // names that the program's ports answer to
	page       StatusPage
	act        bool // the page replays and drops, too
}

// Open opens the broker that c describes, without connecting, and registers its metrics. If
// STATUS_PAGE is on it serves the status page. The caller closes the broker.
func (p *Process) Open(c config.Broker) (*stage.Broker, error) {
	b, err := stage.Open(stage.Options{
		Redis: c.Options(), Log: p.Log, Tracer: p.Admin.Tracer(), Lease: c.Lease,
		Prefix: string(c.KeyPrefix), Nodes: c.Nodes(), Shards: c.Shards, MaxBacklog: c.MaxBacklog, KeepEntries: c.KeepEntries, MaxDead: c.MaxDead,
		WaitReplicas: c.WaitFor, WaitTimeout: c.WaitTimeout,
	})
	if err != nil {
		return nil, err
	}
	p.Admin.RedisPool("pipeline", b.Pool)
	if err := prefixed(p.Admin.Registry(), c.KeyPrefix).Register(b); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if p.StatusPage != "" {
		page, err := p.page(b, operate.Tool(c.Options(), string(c.KeyPrefix)), p.act, p.Log)
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		p.Admin.Show(page)
	}
	return b, nil
}

// prefixed labels metrics with the prefix of the pipeline, if it has one.
func prefixed(r prometheus.Registerer, prefix config.KeyPrefix) prometheus.Registerer {
	if prefix == "" {
		return r
	}
	return prometheus.WrapRegistererWith(prometheus.Labels{"prefix": string(prefix)}, r)
}

// Program is a program with the configuration C, a struct that [config.Load] fills.
type Program[C any] struct {
	Name  string         // in logs and messages
	Does  string         // continues the name in --help: "works out …"
	Admin config.Address // default of ADMIN_LISTEN

	// StatusPage makes the page of STATUS_PAGE, [statuspage.New]; nil leaves page and variables
	// out. A page brings html/template, with which the linker keeps every exported method: 8
	// MB.
	StatusPage   StatusPage
	StatusPageOn config.Switch // default of STATUS_PAGE

	// Processors and GCPercent are defaults of GOMAXPROCS and GOGC; 0 leaves Go's own. On one
	// processor an event passes from reader to handler to settling without waking a thread. A
	// live heap of about 4 MB with GCPercent 400 is collected every 16 MB of allocation.
	Processors, GCPercent int

	// Lean lowers GCPercent, to 50 at least, while more than 4 MB of heap and stacks are in
	// use.
	Lean bool

	// Run does the work until ctx ends. It drains before it returns nil; an error ends the
	// program with status 1.
	Run func(ctx context.Context, cfg C, p *Process) error

	// Commands are subcommands beside healthcheck, by name.
	Commands map[string]Command
}

// StatusPage makes the status page of b's pipeline. Commands on it begin with tool; with act it
// replays and drops dead letters.
type StatusPage func(b *stage.Broker, tool string, act bool, log *slog.Logger) (http.Handler, error)

// Command is a subcommand of a program.
type Command struct {
	Does string // for --help: "runs the document store alone"
	Run  func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error
}

// Main runs the program and exits: with 0 after a drain, 1 after an error, 2 after a wrong command
// line. The first SIGINT or SIGTERM starts the drain, the second one kills.
func (p Program[C]) Main() {
	if p.Processors > 0 && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(p.Processors)
	}
	if p.GCPercent > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(p.GCPercent)
		if p.Lean {
			keepLean(p.GCPercent)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // so that a second signal kills
		cancel()
	}()
	err := p.Start(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", p.Name, strings.TrimSuffix(line, "\n"))
	}
	if errors.Is(err, ErrUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// base is the part of the environment that every program reads.
type base struct {
	telemetry.Logging
	telemetry.Tracing
	AdminListen config.Address `env:"ADMIN_LISTEN" help:"address of /healthz, /readyz and /metrics"`
	Hosts       config.Hosts   `env:"ALLOWED_HOSTS" help:"names that the ports answer to, such as example.com,.example.org or *, beside localhost and IP addresses"`
	StopDelay   time.Duration  `env:"STOP_DELAY" envDefault:"0s" min:"0s" max:"1m" help:"after a signal to stop, requests are served for this long, so that load balancers notice"`
	Profiles    config.Switch  `env:"PPROF" envDefault:"off" help:"on or off: profiles under /debug/pprof/ of the admin port"`
}

// status is read by programs that have a status page.
type status struct {
	Page    config.Switch `env:"STATUS_PAGE" help:"on or off: the status page of the whole pipeline at / of the admin port"`
	Actions config.Switch `env:"STATUS_ACTIONS" envDefault:"off" help:"on or off: the status page also replays and drops dead letters; whoever reaches the admin port may"`
}

// Start is Main without signals and exit, for tests: it runs the program with args and returns its
// error. It drains when ctx ends.
func (p Program[C]) Start(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		if c, ok := p.Commands[args[0]]; ok {
			return c.Run(ctx, args[1:], getenv, stdout, stderr)
		}
		if len(args) > 1 {
			return fmt.Errorf("unexpected argument %q: %w", args[1], ErrUsage)
		}
		switch args[0] {
		case "-h", "-help", "--help", "help":
			return p.help(stdout)
		case "-version", "--version", "version":
			_, err := fmt.Fprintln(stdout, p.Name, FullVersion())
			return err
		case "healthcheck":
			cfg := base{AdminListen: p.Admin}
			if err := config.Load(getenv, &cfg); err != nil {
				return err
			}
			return healthcheck(ctx, cfg.AdminListen, stdout)
		default:
			return fmt.Errorf("unknown argument %q: %w", args[0], ErrUsage)
		}
	}
	common, page := base{AdminListen: p.Admin}, status{Page: p.StatusPageOn}
	var cfg C
	err := errors.Join(config.Load(getenv, &common), config.Load(getenv, &cfg))
	if p.StatusPage != nil {
		err = errors.Join(err, config.Load(getenv, &page))
	}
	if err != nil {
		return err
	}
	log := common.Logging.Open(stderr, p.Name)
	telemetry.LogRedis(log)
	admin := telemetry.NewAdmin()
	tracer, flush, err := common.Tracing.Open(getenv, p.Name, FullVersion(), log)
	if err != nil {
		return err
	}
	defer flush()
	admin.Trace(tracer)
	listener, err := Listen("ADMIN_LISTEN", common.AdminListen)
	if err != nil {
		return err
	}
	own, _, _ := net.SplitHostPort(string(common.AdminListen)) // healthcheck may ask by this name
	defer admin.Serve(listener, append(config.Hosts{cmp.Or(own, "localhost")}, common.Hosts...), bool(common.Profiles), log)()
	defer context.AfterFunc(ctx, admin.Stop)()
	log.Info("starting", "version", FullVersion(), "admin", listener.Addr().String())
	proc := &Process{Name: p.Name, Log: log, Admin: admin, Stdout: stdout, Hosts: common.Hosts}
	if p.StatusPage != nil && bool(page.Page) {
		proc.page, proc.act = p.StatusPage, bool(page.Actions)
		proc.StatusPage = "http://" + listener.Addr().String() + "/"
	}
	ctx, cancel := endLater(ctx, common.StopDelay)
	defer cancel()
	if err := p.Run(ctx, cfg, proc); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// endLater returns a context that ends d after ctx. Meanwhile /readyz says stopping and
// [telemetry.Admin.Observe] closes each connection after its answer, so that no request is cut off.
func endLater(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if d == 0 {
			cancel()
		} else {
			time.AfterFunc(d, cancel)
		}
	})
	return later, func() { stop(); cancel() }
}

func (p Program[C]) help(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s.\n\nUsage:\n  %s\n", p.Name, p.Does, p.Name)
	for _, name := range slices.Sorted(maps.Keys(p.Commands)) {
		fmt.Fprintf(&b, "  %s %-11s  %s\n", p.Name, name, p.Commands[name].Does)
	}
	fmt.Fprintf(&b, "  %s healthcheck  exits with 0 if the running program is ready, else with 1\n", p.Name)
	fmt.Fprintf(&b, "  %s --version    prints the version\n", p.Name)
	b.WriteString("\nEnvironment:\n")
	read := []any{*new(C), base{AdminListen: p.Admin}}
	if p.StatusPage != nil {
		read = append(read, status{Page: p.StatusPageOn})
	}
	b.WriteString(config.Help(read...))
	_, err := io.WriteString(w, b.String())
	return err
}

// FullVersion is Version, or what the Go tool knows of the build.
func FullVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(Version, "unknown")
	}
	v, revision, dirty := cmp.Or(Version, info.Main.Version), "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = " " + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	return v + revision + dirty + " " + info.GoVersion
}
