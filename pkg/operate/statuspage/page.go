// Package statuspage is a page for the admin port that shows a pipeline as it is now: a picture
// of its stages and channels, a table with the same figures, and the dead letters with the
// command that replays each. It shows what the stages report in Redis, so a new stage appears by
// itself. It shows event IDs, but no payload and no email address.
package statuspage

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

//go:embed assets status.html action.html
var files embed.FS

// observer reads the state of the pipeline: an [inspect.Observer].
type observer interface {
	Observe(context.Context) (inspect.Seen, error)
}

// actor changes the pipeline: an [inspect.Pipeline].
type actor interface {
	Replay(ctx context.Context, channel string, entries ...string) (int, error)
	Drop(ctx context.Context, channel string, entries ...string) (int, error)
}

type page struct {
	seen observer
	act  actor // nil: the page only shows
	tool string
	log  *slog.Logger
	html *template.Template
	mux  *http.ServeMux

	mu    sync.Mutex
	drawn time.Time // of the state that body shows
	body  []byte
	past  past
}

// New is the page of b's pipeline, see [Handler].
func New(b *stage.Broker, tool string, act bool, log *slog.Logger) (http.Handler, error) {
	pipeline := inspect.New(b)
	if act {
		return Handler(pipeline.Observer(time.Second), pipeline, tool, log)
	}
	return Handler(pipeline.Observer(time.Second), nil, tool, log)
}

// Handler serves GET /status, the same as JSON at /status.json, and the page's files. The commands
// on the page begin with tool. With act, which may be nil, the page replays and drops dead letters.
func Handler(seen observer, act actor, tool string, log *slog.Logger) (http.Handler, error) {
	p := &page{seen: seen, act: act, tool: tool, log: log, mux: http.NewServeMux(), past: past{}}
	var err error
	p.html, err = template.New("status.html").Funcs(template.FuncMap{
		"rate":  operate.Rate,
		"class": class,
	}).ParseFS(files, "*.html")
	if err != nil {
		return nil, fmt.Errorf("status page: %w", err)
	}
	p.mux.Handle("GET /{$}", http.RedirectHandler("/status", http.StatusSeeOther))
	p.mux.HandleFunc("GET /status", p.show)
	p.mux.HandleFunc("GET /status.json", p.json)
	p.mux.Handle("GET /status/assets/", http.StripPrefix("/status/", http.FileServerFS(files)))
	if act != nil {
		p.mux.HandleFunc("GET /status/{action}", p.confirm)
		p.mux.Handle("POST /status/{action}", http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.do)))
	}
	return p, nil
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

func (p *page) send(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		p.log.Debug("status page not sent", "err", err)
	}
}

const typeHTML = "text/html; charset=utf-8"

// show answers with the page, which it renders once for each state that it is given.
func (p *page) show(w http.ResponseWriter, r *http.Request) {
	seen, err := p.seen.Observe(r.Context())
	if err != nil {
		var b bytes.Buffer
		if err := p.html.Execute(&b, view{Away: err.Error()}); err != nil {
			p.fail(w, err)
			return
		}
		p.send(w, http.StatusServiceUnavailable, typeHTML, b.Bytes())
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.body == nil || !p.drawn.Equal(seen.At) {
		var b bytes.Buffer
		v := newView(seen, p.tool)
		v.Act, v.past = p.act != nil, p.past
		p.past.add(seen.At, v.Rows)
		if err := p.html.Execute(&b, v); err != nil {
			p.fail(w, err)
			return
		}
		p.drawn, p.body = seen.At, b.Bytes()
	}
	p.send(w, http.StatusOK, typeHTML, p.body)
}

func (p *page) fail(w http.ResponseWriter, err error) {
	p.log.Error("status page", "err", err)
	http.Error(w, "something went wrong here; it was logged", http.StatusInternalServerError)
}

func (p *page) json(w http.ResponseWriter, r *http.Request) {
	status, answer := http.StatusOK, any(nil)
	seen, err := p.seen.Observe(r.Context())
	if err != nil {
		status, answer = http.StatusServiceUnavailable, map[string]string{"error": err.Error()}
	} else {
		v := newView(seen, p.tool)
		answer = struct {
			At       time.Time         `json:"at"`
			Prefix   string            `json:"prefix,omitempty"`
			Stages   []operate.Row     `json:"stages"`
			Problems []operate.Problem `json:"problems"`
			Retries  []inspect.Retry   `json:"retries"`
			Dead     []letter          `json:"dead"`
		}{seen.At, v.Prefix, v.Rows, v.Problems, v.Retries, v.Dead}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		p.fail(w, err)
		return
	}
	p.send(w, status, "application/json", append(b, '\n'))
}

type view struct {
	Away string // why there is nothing to show

	At       time.Time
	Prefix   string
	Problems []operate.Problem
	Urgent   int
	Rows     []operate.Row
	Picture  []channel
	Retries  []inspect.Retry
	Dead     []letter
	MoreDead int // not shown
	Tool     string
	Act      bool // dead letters can be replayed and dropped here
	past     past
}

// letter is a dead letter with the command that replays it.
type letter struct {
	inspect.DeadLetter
	Command string `json:"replay"`
}

func newView(seen inspect.Seen, tool string) view {
	v := view{At: seen.At, Prefix: seen.Prefix, Tool: tool, Rows: operate.Rows(seen), Problems: operate.Problems(seen, tool), Retries: seen.Retries}
	// A reason may quote an address. Another program may have used one as an event ID.
	for i := range v.Rows {
		v.Rows[i].Why, v.Rows[i].OldestEvent = mask(v.Rows[i].Why), mask(v.Rows[i].OldestEvent)
	}
	for i, p := range v.Problems {
		v.Problems[i].Text, v.Problems[i].Command = mask(p.Text), mask(p.Command)
		if p.Urgent {
			v.Urgent++
		}
	}
	v.Retries = make([]inspect.Retry, len(seen.Retries))
	for i, r := range seen.Retries {
		r.ID, r.Error = mask(r.ID), mask(r.Error)
		v.Retries[i] = r
	}
	for _, c := range seen.Channels {
		v.MoreDead += c.Dead
	}
	v.MoreDead -= len(seen.Dead)
	v.Dead = make([]letter, len(seen.Dead))
	for i, d := range seen.Dead {
		d.ID, d.Error, d.Payload = mask(d.ID), mask(d.Error), nil
		v.Dead[i] = letter{d, operate.Replay(tool, d)}
	}
	v.Picture = picture(seen, v.Rows)
	return v
}

func class(state string) string {
	switch state {
	case operate.Running:
		return "running"
	case operate.NotRunning, noGroup:
		return "stopped"
	}
	return "waiting"
}

func (v view) Clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// Ago is the time from t to the state shown.
func (v view) Ago(t time.Time) string { return operate.Ago(v.At, t) }

// Waits reports whether an entry added at t has waited long enough to be named.
func (v view) Waits(t time.Time) bool { return !t.IsZero() && v.At.Sub(t) >= 5*time.Second }

// Until is the time from the state shown to t.
func (v view) Until(t time.Time) string { return operate.Ago(t, v.At) }

func (v view) Find(id string) string { return operate.Find(v.Tool, id) }

func (v view) Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var address = regexp.MustCompile(`[^\s"'<>(),;:]+@[^\s"'<>(),;:]+`)

func mask(s string) string { return address.ReplaceAllString(s, "…@…") }
