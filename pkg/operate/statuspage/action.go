package statuspage

import (
	"bytes"
	"net/http"
	"slices"
)

// action is the data of the page that asks for a confirmation, or says what came of it.
type action struct {
	Name   string // "replay" or "drop"
	Letter *letter
	Error  string
}

// asked is the action and the dead letter that a request names. It answers the request and is not
// ok if there is none.
func (p *page) asked(w http.ResponseWriter, r *http.Request) (a action, ok bool) {
	a.Name = r.PathValue("action")
	if a.Name != "replay" && a.Name != "drop" {
		http.NotFound(w, r)
		return a, false
	}
	channel, entry := r.FormValue("channel"), r.FormValue("entry")
	seen, err := p.seen.Observe(r.Context())
	if err != nil {
		a.Error = "The state cannot be read: " + err.Error()
		p.answer(w, http.StatusServiceUnavailable, a)
		return a, false
	}
	letters := newView(seen, p.tool).Dead
	i := slices.IndexFunc(letters, func(d letter) bool { return d.Channel == channel && d.Entry == entry })
	if i < 0 {
		a.Error = "This dead letter is not there any more, or too old to be shown here."
		p.answer(w, http.StatusNotFound, a)
		return a, false
	}
	a.Letter = &letters[i]
	return a, true
}

// confirm asks before a dead letter is replayed or dropped. Nothing changes yet.
func (p *page) confirm(w http.ResponseWriter, r *http.Request) {
	if a, ok := p.asked(w, r); ok {
		p.answer(w, http.StatusOK, a)
	}
}

// do replays or drops a dead letter and leads back to the status. Posts of other sites' pages do
// not come here.
func (p *page) do(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	a, ok := p.asked(w, r)
	if !ok {
		return
	}
	act := p.act.Replay
	if a.Name == "drop" {
		act = p.act.Drop
	}
	n, err := act(r.Context(), a.Letter.Channel, a.Letter.Entry)
	if err == nil && n == 0 {
		a.Error = "This dead letter was not there any more, or its entry is lost."
		p.answer(w, http.StatusConflict, a)
		return
	}
	if err != nil {
		a.Error = "Nothing is known to have changed: " + err.Error()
		p.answer(w, http.StatusServiceUnavailable, a)
		return
	}
	p.log.Info("dead letter "+a.Name+" from the status page", "channel", a.Letter.Channel, "entry", a.Letter.Entry, "event", a.Letter.ID, "peer", r.RemoteAddr)
	http.Redirect(w, r, "/status", http.StatusSeeOther)
}

func (p *page) answer(w http.ResponseWriter, status int, a action) {
	// Under no-referrer the browser would post with "Origin: null", which is refused.
	w.Header().Set("Referrer-Policy", "same-origin")
	a.Error = mask(a.Error)
	var b bytes.Buffer
	if err := p.html.ExecuteTemplate(&b, "action.html", a); err != nil {
		p.fail(w, err)
		return
	}
	p.send(w, status, typeHTML, b.Bytes())
}
