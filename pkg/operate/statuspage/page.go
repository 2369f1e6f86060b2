// Package statuspage is a page for the admin port that shows a pipeline as it is now: a picture of its stages and channels,
// a table that says the same, and what is set aside with the command that brings it back. It is drawn from what the
// stages report in Redis, so a new stage appears by itself. It shows event IDs but no payload and no email address.
package statuspage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

//go:embed assets status.html
var files embed.FS

// observer looks at the pipeline; a [inspect.Observer] does, once for all who ask within its time.
type observer interface {
	Observe(context.Context) (inspect.Seen, error)
}

// page is the handler.
type page struct {
	seen observer
	tool string
	log  *slog.Logger
	html *template.Template
	mux  *http.ServeMux

	mu    sync.Mutex
	drawn time.Time // what body shows
	body  []byte
}

// Handler serves GET /status, the same as JSON at /status.json, and the files they need. Tool is how the commands on the page
// call the command-line tool.
func Handler(seen observer, tool string, log *slog.Logger) (http.Handler, error) {
	p := &page{seen: seen, tool: tool, log: log, mux: http.NewServeMux()}
	version, err := p.assets()
	if err != nil {
		return nil, err
	}
	p.html, err = template.New("status.html").Funcs(template.FuncMap{
		"asset": func(name string) string { return "/status/" + version + "/" + name },
		"rate":  operate.Rate,
	}).ParseFS(files, "status.html")
	if err != nil {
		return nil, fmt.Errorf("status page: %w", err)
	}
	p.mux.Handle("GET /{$}", http.RedirectHandler("/status", http.StatusSeeOther))
	p.mux.HandleFunc("GET /status", p.show)
	p.mux.HandleFunc("GET /status.json", p.json)
	return p, nil
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'none'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

// assets adds the page's files to the routes, under an address that changes with them.
func (p *page) assets() (version string, err error) {
	entries, err := files.ReadDir("assets")
	if err != nil {
		return "", fmt.Errorf("status page: %w", err)
	}
	sum := sha256.New()
	all := map[string][]byte{}
	for _, e := range entries {
		b, err := files.ReadFile("assets/" + e.Name())
		if err != nil {
			return "", fmt.Errorf("status page: %w", err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", e.Name(), len(b), b)
		all[e.Name()] = b
	}
	version = hex.EncodeToString(sum.Sum(nil))[:12]
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for name, b := range all {
		p.mux.HandleFunc("GET /status/"+version+"/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			p.send(w, http.StatusOK, kinds[path.Ext(name)], b)
		})
	}
	return version, nil
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

// show answers with the page. It is drawn once for all who look at the same moment.
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
		if err := p.html.Execute(&b, newView(seen, p.tool)); err != nil {
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

// json answers with what the page shows.
func (p *page) json(w http.ResponseWriter, r *http.Request) {
	status, answer := http.StatusOK, any(nil)
	seen, err := p.seen.Observe(r.Context())
	if err != nil {
		status, answer = http.StatusServiceUnavailable, map[string]string{"error": err.Error()}
	} else {
		v := newView(seen, p.tool)
		answer = struct {
			At       time.Time         `json:"at"`
			Stages   []operate.Row     `json:"stages"`
			Problems []operate.Problem `json:"problems"`
			Retries  []inspect.Retry   `json:"retries"`
			Dead     []letter          `json:"dead"`
		}{seen.At, v.Rows, v.Problems, v.Retries, v.Dead}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		p.fail(w, err)
		return
	}
	p.send(w, status, "application/json", append(b, '\n'))
}

// view is what is shown.
type view struct {
	Away string // why nothing is

	At       time.Time
	Problems []operate.Problem
	Urgent   int
	Rows     []operate.Row
	Wide     picture
	Tall     picture // for narrow windows
	Retries  []inspect.Retry
	Dead     []letter
	MoreDead int // that are not shown
	Tool     string
}

// letter is a dead letter and how to replay it.
type letter struct {
	Channel string    `json:"channel"`
	Entry   string    `json:"entry"`
	Group   string    `json:"group"`
	ID      string    `json:"id"`
	Error   string    `json:"error"`
	Tries   int       `json:"tries"`
	Crashes int       `json:"crashes"`
	At      time.Time `json:"dead"`
	Command string    `json:"replay"`
}

func newView(seen inspect.Seen, tool string) view {
	v := view{At: seen.At, Tool: tool, Rows: operate.Rows(seen), Problems: operate.Problems(seen, tool), Retries: seen.Retries}
	// A reason may quote an address, and a foreign program may have made one an event ID.
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
		v.Dead[i] = letter{d.Channel, d.Entry, d.Group, mask(d.ID), mask(d.Error), d.Tries, d.Crashes, d.Dead, operate.Replay(tool, d)}
	}
	v.Wide, v.Tall = draw(seen, v.Rows, wide), draw(seen, v.Rows, tall)
	return v
}

// Clock is a time as the page writes it.
func (v view) Clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// Ago is how long before the look t was.
func (v view) Ago(t time.Time) string { return operate.Ago(v.At, t) }

// Waits tells whether what was added at t waits for long enough that somebody may want to know what it is.
func (v view) Waits(t time.Time) bool { return !t.IsZero() && v.At.Sub(t) >= 5*time.Second }

// Until is how long after the look t is.
func (v view) Until(t time.Time) string { return operate.Ago(t, v.At) }

// Find is the command that shows where an event is.
func (v view) Find(id string) string { return operate.Find(v.Tool, id) }

// Stamp is a time for machines.
func (v view) Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var address = regexp.MustCompile(`[^\s"'<>(),;:]+@[^\s"'<>(),;:]+`)

// mask takes email addresses out of a text.
func mask(s string) string { return address.ReplaceAllString(s, "…@…") }
