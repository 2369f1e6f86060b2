package users_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/jsonapi"
	"github.com/milepost/milepost/services/internal/processtest"
	"github.com/milepost/milepost/services/users"
)

// store is a store in memory that calls a function before each read.
type store struct {
	mu     sync.Mutex
	all    []records.Record
	reads  atomic.Int64
	before func(ctx context.Context) error
}

func (s *store) read(ctx context.Context) error {
	s.reads.Add(1)
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx)
}

func (s *store) do(before func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *store) add(email string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		i := len(s.all)
		s.all = append(s.all, records.Record{
			ID: fmt.Sprintf("ev-%05d", i), Email: email, Miles: float64(i), Lat: "1", Long: "2",
			SubmittedAt: time.UnixMilli(1_700_000_000_000 + int64(i/7)), StoredAt: time.UnixMilli(1_800_000_000_000), // seven a millisecond
		})
	}
}

func (s *store) Profile(ctx context.Context, email string) (records.Profile, error) {
	if err := s.read(ctx); err != nil {
		return records.Profile{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var p records.Profile
	for _, r := range s.all {
		if event.Address(r.Email).Mailbox() == event.Address(email).Mailbox() {
			if p.Submissions++; p.Submissions == 1 {
				p.First = r.SubmittedAt
			}
			p.Last = r.SubmittedAt
		}
	}
	return p, nil
}

func (s *store) History(ctx context.Context, email string, place records.Place, limit int) ([]records.Record, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []records.Record
	for _, r := range slices.Backward(s.all) {
		if event.Address(r.Email).Mailbox() == event.Address(email).Mailbox() && len(page) < limit &&
			(place == records.Place{} || r.SubmittedAt.Before(place.At) || r.SubmittedAt.Equal(place.At) && r.ID < place.ID) {
			page = append(page, r)
		}
	}
	return page, nil
}

func (s *store) FindByIDs(ctx context.Context, ids []string) (map[string]records.Record, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]records.Record{}
	for _, r := range s.all {
		if slices.Contains(ids, r.ID) {
			found[r.ID] = r
		}
	}
	return found, nil
}

func (s *store) Ready() error { return nil }

func serve(t testing.TB, broker, answers *redis.Options, s users.Store, token string) processtest.Answering {
	t.Helper()
	return processtest.Answer(t, broker, answers, func(ctx context.Context, d jsonapi.Deps) error {
		return users.Run(ctx, users.Deps{Deps: d, Store: s, Settings: users.Settings{UsersToken: token}})
	})
}

// submission returns a function that publishes a submission of ada, and another that reports
// whether all submissions are settled.
func submission(t testing.TB, s processtest.Answering) (submit func(), settled func() bool) {
	pub := s.Broker.Publisher("test", event.UserEmail)
	t.Cleanup(func() { _ = pub.Close() })
	return func() {
		if _, err := pub.Publish(context.Background(), stage.Submission{Body: event.Address("ada@example.com")}); err != nil {
			t.Error(err)
		}
	}, func() bool { return s.Settled(event.UserEmail) }
}

type answer struct {
	users.Page
	Error string
}

func get(t testing.TB, address, token string) (status int, a answer) {
	t.Helper()
	status = processtest.GetJSON(t, address, token, &a)
	return status, a
}

const ada = "/users/ada@example.com"

func TestUser(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var s store
		s.add("ada@example.com", 3)
		s.add("bob@example.com", 1)
		base := serve(t, o, o, &s, "").Base
		for range 3 {
			response, err := http.Get(base + ada)
			stagetest.OK(t, err)
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			want := `{"user":{"email":"ada@example.com","submissions":3,"first_at":"2023-11-14T22:13:20Z","last_at":"2023-11-14T22:13:20Z"},"submissions":[` +
				`{"id":"ev-00002","distance_from_velocity":2,"lat":"1","long":"2","submitted_at":"2023-11-14T22:13:20Z","stored_at":"2027-01-15T08:00:00Z"},` +
				`{"id":"ev-00001","distance_from_velocity":1,"lat":"1","long":"2","submitted_at":"2023-11-14T22:13:20Z","stored_at":"2027-01-15T08:00:00Z"},` +
				`{"id":"ev-00000","distance_from_velocity":0,"lat":"1","long":"2","submitted_at":"2023-11-14T22:13:20Z","stored_at":"2027-01-15T08:00:00Z"}]}`
			if err != nil || response.StatusCode != 200 || string(body) != want {
				t.Errorf("GET = %d %s, %v; want %s", response.StatusCode, body, err, want)
			}
		}
		if n := s.reads.Load(); n != 2 {
			t.Errorf("3 requests caused %d reads, want 2", n)
		}
		for path, want := range map[string]int{
			"/users/eve@example.com": 404, "/users/ada": 400, "/users/ada@example.com%0a": 400, ada + "?limit=0": 400, ada + "?limit=101": 400,
			ada + "?after=x": 400, "/users/": 404, "/submissions": 400, "/submissions?ids=,": 400, "/nowhere": 404,
		} {
			if status, a := get(t, base+path, ""); status != want || a.Error == "" {
				t.Errorf("GET %s = %d, %q; want %d and a reason", path, status, a.Error, want)
			}
		}
		for _, spelled := range []string{"Ada@Example.COM", "ADA@example.com"} {
			if status, a := get(t, base+"/users/"+spelled, ""); status != 200 || a.User.Email != "ada@example.com" || a.User.Submissions != 3 || s.reads.Load() > 6 {
				t.Errorf("GET %s = %d, %+v after %d reads; want the page of ada@example.com, from the cache", spelled, status, a, s.reads.Load())
			}
		}
		if status, a := get(t, base+ada+"/", ""); status != 200 || a.User.Email != "ada@example.com" {
			t.Errorf("GET with a slash at the end = %d, %+v", status, a)
		}
		if r, err := http.Head(base + ada); err != nil || r.StatusCode != 200 {
			t.Errorf("HEAD = %v, %v", r, err)
		}
		if _, a := get(t, base+"/users/eve@example.com", ""); a.Error != "User not found" {
			t.Errorf("an unknown user: %q", a.Error)
		}
		if status, a := get(t, base+"/submissions?ids=ev-00003,ev-00009,ev-00001,ev-00001", ""); status != 200 || len(a.Submissions) != 2 || a.Submissions[0].ID != "ev-00003" || a.Submissions[1].Miles != 1 {
			t.Errorf("GET /submissions = %d, %+v; want ev-00003 and ev-00001", status, a)
		}
	})
}

func TestToken(t *testing.T) {
	var s store
	s.add("ada@example.com", 1)
	o := stagetest.Embedded(t)
	base := serve(t, o, o, &s, "secret").Base
	for token, want := range map[string]int{"Bearer secret": 200, "bearer  secret": 200, "bearer Secret": 401, "": 401, "Bearer": 401, "Bearer secret2": 401, "secret": 401, "Basic secret": 401} {
		for _, path := range []string{ada, "/submissions?ids=ev-00000"} {
			if status, _ := get(t, base+path, token); status != want {
				t.Errorf("GET %s with %q = %d, want %d", path, token, status, want)
			}
		}
	}
}

// The pages of 10,000 submissions, many in the same millisecond, have no gap and no repeat.
func TestPages(t *testing.T) {
	var s store
	s.add("ada@example.com", 10_000)
	o := stagetest.Embedded(t)
	base := serve(t, o, o, &s, "").Base
	next, seen := "", 0
	for {
		status, a := get(t, base+ada+"?limit=100&after="+next, "")
		if status != 200 || a.User.Submissions != 10_000 {
			t.Fatalf("page after %q: %d %+v", next, status, a)
		}
		for _, r := range a.Submissions {
			if want := fmt.Sprintf("ev-%05d", 9999-seen); r.ID != want {
				t.Fatalf("submission %d is %s, want %s", seen, r.ID, want)
			}
			seen++
		}
		if next = a.Next; next == "" {
			break
		}
	}
	if seen != 10_000 {
		t.Errorf("%d submissions in all pages, want 10,000", seen)
	}
	if _, a := get(t, base+ada, ""); len(a.Submissions) != 20 || a.Next != "1700000001425-ev-09980" {
		t.Errorf("first page: %d submissions, next %q", len(a.Submissions), a.Next)
	}
}

// The two reads run at the same time: each waits for the other.
func TestConcurrent(t *testing.T) {
	var s store
	s.add("ada@example.com", 1)
	var both sync.WaitGroup
	both.Add(2)
	s.do(func(context.Context) error { both.Done(); both.Wait(); return nil })
	o := stagetest.Embedded(t)
	base := serve(t, o, o, &s, "").Base
	if status, a := get(t, base+ada, ""); status != 200 {
		t.Errorf("GET = %d %q", status, a.Error)
	}
}

func TestAttempts(t *testing.T) {
	for name, tc := range map[string]struct {
		fails  int64 // how many of the first reads
		with   error
		status int
		reads  int64
	}{
		"twice, passing":  {2, net.ErrClosed, 200, 3},
		"for good":        {1000, net.ErrClosed, 503, 3},
		"not passing":     {1000, mongo.CommandError{Code: 2, Message: "unknown operator"}, 500, 1},
		"once, a timeout": {1, context.DeadlineExceeded, 200, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var s store
			s.add("ada@example.com", 1)
			s.do(func(context.Context) error {
				if s.reads.Load() <= tc.fails {
					return tc.with
				}
				return nil
			})
			o := stagetest.Embedded(t)
			base := serve(t, o, o, &s, "").Base
			status, a := get(t, base+"/submissions?ids=ev-00000", "")
			if status != tc.status || s.reads.Load() != tc.reads || strings.Contains(a.Error, "operator") {
				t.Errorf("GET = %d, %q after %d reads; want %d after %d", status, a.Error, s.reads.Load(), tc.status, tc.reads)
			}
		})
	}
}

// If the store hangs, the answer comes in time; it is right again as soon as the store answers.
func TestStoreHangs(t *testing.T) {
	var s store
	s.add("ada@example.com", 1)
	s.do(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	o := stagetest.Embedded(t)
	base := serve(t, o, o, &s, "").Base
	if status, a := get(t, base+ada, ""); status != 503 || a.Error == "" {
		t.Errorf("GET = %d, %q; want 503 and a reason", status, a.Error)
	}
	s.do(nil)
	stagetest.Eventually(t, "the store's answer comes through", func() bool { status, _ := get(t, base+ada, ""); return status == 200 })
}

// A submission drops the cached page in all replicas. A page that is being read meanwhile is not
// cached.
func TestInvalidation(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var s store
		service := serve(t, o, o, &s, "")
		base, other := service.Base, serve(t, o, o, &s, "").Base
		publish, settled := submission(t, service)
		submit := func() { s.add("ada@example.com", 1); publish() }
		count := func(base string) int {
			_, a := get(t, base+ada, "")
			return a.User.Submissions
		}
		stagetest.Eventually(t, "the stage has its group", settled)
		if n := count(base); n != 0 {
			t.Errorf("%d submissions before the first", n)
		}
		for want := 1; want <= 3; want++ {
			submit()
			for _, base := range []string{base, other} {
				stagetest.Eventually(t, "the new submission shows", func() bool { return count(base) == want })
			}
		}

		// The history is read, then a submission comes and is settled, then the answer
		// arrives.
		stagetest.Eventually(t, "all is settled", settled)
		rdb := stagetest.Client(t, o)
		keys := rdb.Keys(t.Context(), "cache:users:*").Val()
		if len(keys) != 1 || rdb.Del(t.Context(), keys[0]).Err() != nil {
			t.Fatal(keys)
		}
		var once sync.Once
		slow := &late{store: &s, then: func() {
			once.Do(func() {
				submit()
				stagetest.Eventually(t, "the submission is settled", settled)
			})
		}}
		if n := count(serve(t, o, o, slow, "").Base); n != 3 {
			t.Errorf("the answer that was being read has %d submissions, want 3", n)
		}
		if n := count(other); n != 4 {
			t.Errorf("the next answer has %d submissions, want 4: the late one was kept", n)
		}
	})
}

// late is a store whose answers take their time.
type late struct {
	*store
	then func()
}

func (l *late) Profile(ctx context.Context, email string) (records.Profile, error) {
	p, err := l.store.Profile(ctx, email)
	l.then()
	return p, err
}

// While the cache is away, requests are answered from the store, and the stage waits to drop the
// cached page.
func TestCacheAway(t *testing.T) {
	var s store
	s.add("ada@example.com", 1)
	server := stagetest.Real(t, stagetest.Durable...)
	service := serve(t, stagetest.Embedded(t), server.Options(), &s, "")
	base := service.Base
	submit, settled := submission(t, service)
	if status, a := get(t, base+ada, ""); status != 200 || a.User.Submissions != 1 {
		t.Fatal(status, a)
	}
	server.Kill()
	s.add("ada@example.com", 1)
	submit()
	stagetest.Eventually(t, "the stage waits for the cache", func() bool {
		report, ok := service.Admin.Ready()
		return ok && strings.Contains(report, "cache is away")
	})
	if status, a := get(t, base+ada, ""); status != 200 || a.User.Submissions != 2 {
		t.Errorf("GET without the cache = %d, %+v", status, a)
	}
	server.Start()
	stagetest.Eventually(t, "the old answer is dropped", settled)
	if _, a := get(t, base+ada, ""); a.User.Submissions != 2 {
		t.Errorf("GET after the cache came back: %d submissions, want 2", a.User.Submissions)
	}
}
