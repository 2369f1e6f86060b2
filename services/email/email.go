// Package email is the stage that sends the emails: it writes exactly one line to the log for each
// submission, whatever is killed. The README tells operators about the log and its journal.
package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
	"github.com/milepost/milepost/services/email/journal"
)

// Settings are the operator's settings of the log. Programs embed them in their configuration.
type Settings struct {
	SentEmails  string        `env:"SENT_EMAILS" envDefault:"sent_emails" help:"the log; its journal is a folder beside it"`
	JournalKeep time.Duration `env:"JOURNAL_KEEP" envDefault:"720h" min:"1h" help:"how long the journal remembers events; older ones become dead letters"`
	TZ          Zone          `env:"TZ" help:"time zone of the log's times; unset: the system's"`
}

type Deps struct {
	Broker *stage.Broker
	Store  Store
	Office string // its name in the lines
	Settings
	Writers
	Tuning config.Tuning
	Stdout io.Writer // gets a copy of the lines; Run then ignores SIGPIPE. May be nil
	Log    *slog.Logger
	Admin  *telemetry.Admin
}

// maxBatch is how many lines share a record of the journal and two syncs.
const maxBatch = 256

// Run waits for the journal's lock, as a standby while another process has it, and completes the
// lines that the last holder had begun. Then it works on user:email until ctx ends, and drains. It
// waits while Redis, the store or the disk is away or full. It returns an error for what waiting
// does not fix: a log that is not a file, a damaged journal.
func Run(ctx context.Context, d Deps) error {
	if strings.ContainsFunc(d.Office, unicode.IsControl) {
		return fmt.Errorf("OFFICE_NAME: %q has a control character; it must be text on one line", d.Office)
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	number, err := d.number(host)
	if err != nil {
		return err
	}
	now := newFigures(number)
	for _, c := range now.all {
		if err := d.Admin.Registry().Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		defer d.Admin.Registry().Unregister(c)
	}
	d.Admin.Watch("email", func() error { return errors.New("opening the journal") })
	j, err := openJournal(ctx, d)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("SENT_EMAILS: %w", err)
	}
	now.open.Store(j)
	err = run(ctx, d, j, number, now.dropped)
	now.open.Store(nil)
	return errors.Join(err, j.Close())
}

// openJournal waits for the journal until ctx ends.
func openJournal(ctx context.Context, d Deps) (*journal.Journal, error) {
	o := journal.Options{Path: d.SentEmails, Keep: d.JournalKeep, Log: d.Log, Standby: func() {
		d.Log.Info("standby: another process writes the log", "log", d.SentEmails)
		d.Admin.WatchNote("email", func() (string, error) { return "standby", nil })
	}}
	for told := false; ; {
		j, err := journal.Open(ctx, o)
		if err == nil || ctx.Err() != nil || errors.Is(err, journal.ErrPath) || errors.Is(err, journal.ErrDamaged) {
			return j, err
		}
		d.Admin.Watch("email", func() error { return fmt.Errorf("journal: %w", err) })
		if !told {
			told = true
			d.Log.Warn("waiting for the journal", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func run(ctx context.Context, d Deps, j *journal.Journal, number int, dropped prometheus.Counter) error {
	h := Handler{Store: d.Store, Log: j, Office: d.Office, Zone: d.TZ}
	if d.Stdout != nil {
		signal.Ignore(syscall.SIGPIPE) // or this process would end when the reader of the copy ends
		c := newCopier(d.Stdout, dropped, d.Log)
		defer c.close()
		h.Copy = c.write
	}
	s, err := d.Broker.New(d.Tuning.Apply(stage.Config{
		Name:     "email",
		In:       event.UserEmail,
		Out:      []stage.Output{{Channel: event.EmailSent, Unread: true}},
		Consumer: j.Identity(),
		Writer:   number, Writers: d.Writers.Writers,
		Probe: h.probe,
	}), stage.Batch(maxBatch, h.Handle))
	if err != nil {
		return err
	}
	d.Admin.WatchNote("email", func() (string, error) { return s.Shards(), s.Ready() })
	d.Log.Info("log open", "log", j.Path(), "journal", j.Identity(), "events", j.Stats().Events)
	if err = s.Run(ctx); errors.Is(err, stage.ErrShards) {
		err = fmt.Errorf("EMAIL_WRITERS: %w", err)
	}
	return err
}
