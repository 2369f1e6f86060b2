package users

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
)

const (
	defaultLimit = 20
	maxLimit     = 100
)

// Users reads profiles and submissions.
type Users struct {
	store   Store
	pages   *cache.Cache[json.RawMessage] // as sent: a hit is not decoded
	reads   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// New returns a Users that reads s and caches in c.
func New(c *cache.Client, s Store) *Users {
	return &Users{
		store: s,
		pages: cache.New[json.RawMessage](c, cache.Options{Name: Name, TTL: 300 * time.Second, Timeout: 6 * time.Second}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_users_reads_total", Help: "Attempts to read from the store, by what was read and outcome.",
		}, []string{"read", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "milepost_users_read_seconds", Help: "Time of an attempt to read from the store.", Buckets: prometheus.ExponentialBuckets(0.0005, 3, 9),
		}, []string{"read"}),
	}
}

// Page is the JSON of GET /users/{email}.
type Page struct {
	User        User         `json:"user"`
	Submissions []Submission `json:"submissions"`    // newest first
	Next        string       `json:"next,omitempty"` // the next page's ?after=; "" on the last page
}

// User is the profile of a mailbox.
type User struct {
	Email       string    `json:"email"` // the mailbox: in lower case
	Submissions int       `json:"submissions"`
	FirstAt     time.Time `json:"first_at"`
	LastAt      time.Time `json:"last_at"`
}

type Submission struct {
	ID          string    `json:"id"` // event ID
	Miles       float64   `json:"distance_from_velocity"`
	Lat         string    `json:"lat,omitempty"`
	Long        string    `json:"long,omitempty"`
	SubmittedAt time.Time `json:"submitted_at"`
	StoredAt    time.Time `json:"stored_at"`
}

// errUnknown: the address never submitted.
var errUnknown = fmt.Errorf("user: %w", cache.ErrMissing)

// Page returns the JSON of a [Page] with up to limit submissions of email after the place. Only the
// first page of the default length is cached, so that one Drop removes all that is cached of email.
func (u *Users) Page(ctx context.Context, email event.Address, after records.Place, limit int) (json.RawMessage, error) {
	load := func(ctx context.Context) (json.RawMessage, error) {
		p, err := u.load(ctx, email, after, limit)
		if err != nil {
			return nil, err
		}
		return json.Marshal(p)
	}
	if after != (records.Place{}) || limit != defaultLimit {
		return load(ctx)
	}
	r, err := u.pages.Get(ctx, cacheKey(email), load)
	return r.Value, err
}

// load reads profile and history at the same time.
func (u *Users) load(ctx context.Context, email event.Address, after records.Place, limit int) (Page, error) {
	var profile records.Profile
	var history []records.Record
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		profile, err = read(ctx, u, "profile", func(ctx context.Context) (records.Profile, error) {
			return u.store.Profile(ctx, string(email))
		})
		return err
	})
	g.Go(func() (err error) {
		history, err = read(ctx, u, "history", func(ctx context.Context) ([]records.Record, error) {
			return u.store.History(ctx, string(email), after, limit+1) // one more: a next page?
		})
		return err
	})
	if err := g.Wait(); err != nil {
		return Page{}, err
	}
	if profile.Submissions == 0 {
		return Page{}, errUnknown
	}
	p := Page{
		User:        User{email.Mailbox(), profile.Submissions, profile.First.UTC(), profile.Last.UTC()},
		Submissions: make([]Submission, 0, limit),
	}
	if len(history) > limit {
		history = history[:limit]
		p.Next = writePlace(history[limit-1])
	}
	for _, r := range history {
		p.Submissions = append(p.Submissions, submission(r))
	}
	return p, nil
}

func submission(r records.Record) Submission {
	return Submission{r.ID, r.Miles, r.Lat, r.Long, r.SubmittedAt.UTC(), r.StoredAt.UTC()}
}

// writePlace returns the place of r: its time in Unix milliseconds, a dash and the event ID.
func writePlace(r records.Record) string {
	return strconv.FormatInt(r.SubmittedAt.UnixMilli(), 10) + "-" + r.ID
}

var errPlace = errors.New("after is not what an earlier page gave as next")

func readPlace(text string) (records.Place, error) {
	if text == "" {
		return records.Place{}, nil
	}
	at, id, ok := strings.Cut(text, "-")
	ms, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || id == "" {
		return records.Place{}, errPlace
	}
	return records.Place{At: time.UnixMilli(ms), ID: id}, nil
}

// Submissions returns the submissions of the events that are stored, in the order of ids.
func (u *Users) Submissions(ctx context.Context, ids []string) ([]Submission, error) {
	found, err := read(ctx, u, "by id", func(ctx context.Context) (map[string]records.Record, error) {
		return u.store.FindByIDs(ctx, ids)
	})
	if err != nil {
		return nil, err
	}
	all := make([]Submission, 0, len(found))
	for _, id := range ids {
		if r, ok := found[id]; ok {
			all = append(all, submission(r))
		}
	}
	return all, nil
}

// Handle drops the cached page of an address that has just submitted. While the cache is away, the
// event waits, because the cache may come back with the old page.
func (u *Users) Handle(ctx context.Context, e stage.Event[event.Address]) (stage.Nothing, error) {
	if err := u.pages.Drop(ctx, cacheKey(e.Body)); err != nil {
		return stage.Nothing{}, stage.Down(fmt.Errorf("drop a cached page: %w", err))
	}
	return stage.Nothing{}, nil
}

// cacheKey is the same for all addresses of a mailbox. It keeps them out of Redis's keys.
func cacheKey(email event.Address) string {
	sum := sha256.Sum256([]byte(email.Mailbox()))
	return hex.EncodeToString(sum[:16])
}
