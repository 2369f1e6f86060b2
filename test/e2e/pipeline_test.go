//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/weather/openmeteo"
	"github.com/milepost/milepost/test/process"
)

func TestMain(m *testing.M) {
	if name := os.Getenv("MILEPOST_FOREIGN"); name != "" {
		foreign(name) // this process is one of the foreign programs of promise_channels_foreign_test.go
		return
	}
	code := m.Run()
	tellAll()
	os.Exit(code)
}

// root is the repository.
const root = "../.."

// builds are the programs, built once for each set of build tags.
var builds = built{dirs: map[string]string{}}

type built struct {
	mu   sync.Mutex
	dirs map[string]string
}

// programs builds all programs as `make build` does, with further build tags, and returns the
// folder they are in. It is the same in each run, so that a run that is killed leaves nothing more.
func (b *built) programs(t testing.TB, tags string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if dir, ok := b.dirs[tags]; ok {
		return dir
	}
	mains, err := filepath.Glob(root + "/services/*/cmd/*")
	if err != nil || len(mains) == 0 {
		t.Fatalf("no programs found: %v", err)
	}
	dir, err := filepath.Abs(filepath.Join(root, "bin", "test", tags))
	stagetest.OK(t, err)
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-tags", tags, "-o", dir + "/"}
	for _, m := range mains {
		args = append(args, "./"+strings.TrimPrefix(m, root+"/"))
	}
	build := exec.Command("go", args...)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	b.dirs[tags] = dir
	return dir
}

// pipeline is a Redis, a document store, and what the services that a test starts have in common.
type pipeline struct {
	t     testing.TB
	bin   string   // folder of the programs
	log   string   // sent_emails
	logs  []string // of further writers
	env   []string
	redis *stagetest.Server // nil if it is replicated
	url   string            // of Redis
	at    *redis.Options    // the same
	rdb   *redis.Client     // for looking
	names string            // KEY_PREFIX
	named bool              // each program has a user of Redis with its own name, and the password secret
	store *process.Process
	mongo string // URL of the store
	web   []*service
}

// newPipeline starts Redis as broker.conf has it, and the store. Each of env is NAME=value, for
// every service.
func newPipeline(t testing.TB, env ...string) *pipeline {
	t.Helper()
	return newPipelineOn(t, nil, env...)
}

// newPipelineOn is newPipeline with more words in the command line of redis-server.
func newPipelineOn(t testing.TB, redisArgs []string, env ...string) *pipeline {
	t.Helper()
	server := stagetest.Real(t, slices.Concat(stagetest.Durable, redisArgs)...)
	p := newPipelineAt(t, "redis://"+server.Addr, server.Options(), env...)
	p.redis = server
	return p
}

// newPipelineAt is newPipeline for a Redis that runs.
func newPipelineAt(t testing.TB, url string, at *redis.Options, env ...string) *pipeline {
	t.Helper()
	p := &pipeline{t: t, url: url, at: at, log: filepath.Join(t.TempDir(), "sent_emails")}
	p.bin = builds.programs(t, "")
	p.rdb = redis.NewClient(at) // which retries, as Redis comes and goes
	t.Cleanup(func() { p.rdb.Close() })
	p.store, p.mongo = newStore(t, p.bin)
	p.store.Start()
	p.env = append([]string{
		"REDIS_URL=" + url, "MONGO_URL=" + p.mongo, "SENT_EMAILS=" + p.log,
		"RATE_LIMIT=off", "ADDRESS_LIMIT=off", "LEASE=2s",
	}, env...)
	p.store.Ready()
	return p
}

// newWhole starts a pipeline with all services and a provider of weather, and waits until bare
// PUBLISHes are adopted. The services are users, weather and those of all, in this order.
func newWhole(t testing.TB, env ...string) (*pipeline, []*service) {
	t.Helper()
	p := newPipeline(t, env...)
	return p, p.startWhole()
}

func (p *pipeline) startWhole() []*service {
	p.t.Helper()
	services := p.whole()
	for _, s := range services {
		s.Start()
	}
	alive(p.t, services)
	p.adopted(all...)
	return services
}

// whole makes all services and starts a provider of weather.
func (p *pipeline) whole() (services []*service) {
	p.t.Helper()
	provider := openmeteo.Start(p.t)
	p.env = append(p.env, "WEATHER_PROVIDER_URL="+provider.URL, "GEOCODING_URL="+provider.URL)
	services = []*service{p.service("users"), p.service("weather")}
	p.env = append(p.env, "USERS_URL="+services[0].url, "WEATHER_URL="+services[1].url)
	for _, name := range all {
		services = append(services, p.service(name))
	}
	return services
}

// newStandalone starts standalone, and returns a pipeline that knows its addresses.
func newStandalone(t testing.TB, env ...string) (*pipeline, *service) {
	t.Helper()
	p := &pipeline{t: t, bin: builds.programs(t, ""), log: filepath.Join(t.TempDir(), "sent_emails"), redis: &stagetest.Server{Addr: process.Addr(t)}}
	p.url, p.at = "redis://"+p.redis.Addr, p.redis.Options()
	p.env = append(env, "EMBEDDED_REDIS="+p.redis.Addr, "EMBEDDED_MONGO="+process.Addr(t), "DATA="+t.TempDir(), "SENT_EMAILS="+p.log)
	return p, p.start("standalone")[0]
}

// newStore makes a document store of its own process; it is not started yet.
func newStore(t testing.TB, bin string) (store *process.Process, url string) {
	t.Helper()
	addr := process.Addr(t)
	store = process.New(t, "store", filepath.Join(bin, "standalone"), "store", "--listen", addr, "--data", t.TempDir())
	url = "mongodb://" + addr + "/"
	store.Up = func(ctx context.Context) error {
		s, err := records.Open(url, "milepost", 0)
		if err != nil {
			return err
		}
		defer s.Close(ctx)
		return s.Ping(ctx)
	}
	return store, url
}

// service is one of the programs at work.
type service struct {
	*process.Process
	admin string // its admin port
	url   string // where one that answers requests is reached
}

// service makes a process of a program; it is not started yet. Env goes before the pipeline's.
func (p *pipeline) service(name string, env ...string) *service {
	p.t.Helper()
	s := &service{admin: process.Addr(p.t), Process: process.New(p.t, name, filepath.Join(p.bin, name))}
	s.Env = append(s.Env, p.env...)
	s.Env = append(s.Env, "ADMIN_LISTEN="+s.admin)
	if p.named {
		s.Env = append(s.Env, "REDIS_USERNAME="+name, "REDIS_PASSWORD=secret")
	}
	switch name {
	case "web-api", "users", "weather", "standalone":
		listen := process.Addr(p.t)
		s.url = "http://" + listen
		s.Env = append(s.Env, "LISTEN="+listen)
	}
	if name == "web-api" || name == "standalone" {
		p.web = append(p.web, s)
	}
	s.Env = append(s.Env, env...)
	s.Up = func(ctx context.Context) error {
		status, body, err := ask(ctx, http.MethodGet, "http://"+s.admin+"/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("readyz: %s", body)
		}
		return err
	}
	return s
}

// start starts a process of each named program and waits until all are ready and bare PUBLISHes on
// their channels are adopted.
func (p *pipeline) start(names ...string) []*service {
	p.t.Helper()
	all := make([]*service, len(names))
	for i, n := range names {
		all[i] = p.service(n)
		all[i].Start()
	}
	for _, s := range all {
		s.Ready()
	}
	p.adopted(names...)
	return all
}

// adopted waits until bare PUBLISHes are adopted on the channels that the programs read.
func (p *pipeline) adopted(programs ...string) {
	p.t.Helper()
	look := p.look()
	for i, channel := range hops {
		if slices.Contains(programs, all[i+1]) || slices.Contains(programs, "standalone") {
			stagetest.Eventually(p.t, "bare PUBLISHes on "+channel+" are adopted", func() bool {
				s, err := look.Status(p.t.Context(), channel)
				return err == nil && s.Adopted
			})
		}
	}
}

// all are the four programs of the pipeline.
var all = []string{"web-api", "distance", "db", "email"}

// ask sends a request without a body and returns the answer.
func ask(ctx context.Context, method, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// page is what the service's admin port answers at path. It must be there.
func (s *service) page(path string) string {
	s.T.Helper()
	status, body, err := ask(s.T.Context(), http.MethodGet, "http://"+s.admin+path)
	if err != nil || status != http.StatusOK {
		s.T.Fatalf("GET %s of %s: %d, %v\n%s", path, s.Name, status, err, body)
	}
	return body
}

// waits waits until /readyz answers 503 and names what the service waits for.
func (s *service) waits(for_ string) {
	s.T.Helper()
	var status int
	var body string
	var err error
	defer func() {
		if s.T.Failed() {
			s.T.Logf("/readyz of %s: %d %s%v", s.Name, status, body, err)
		}
	}()
	stagetest.Eventually(s.T, s.Name+" waits for "+for_, func() bool {
		status, body, err = ask(s.T.Context(), http.MethodGet, "http://"+s.admin+"/readyz")
		return err == nil && status == http.StatusServiceUnavailable && strings.Contains(body, for_)
	})
}

// client asks services. Each request has a connection of its own: processes come and go on the same
// port.
var client = &http.Client{Timeout: process.Patience, Transport: &http.Transport{DisableKeepAlives: true}}

// visit is a submission as JSON writes it.
type visit struct {
	Email string `json:"email"`
	Lat   string `json:"lat"`
	Long  string `json:"long"`
}

// post submits v at a web-api. It returns the answer's status, and the event ID if that is 201. Key
// is the idempotency key, "" for none. A 503 must say when to try again.
func post(t testing.TB, url string, v visit, key string) (status int, id string, err error) {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/distance", bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var answer struct {
		ID string `json:"id"`
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		err = json.NewDecoder(resp.Body).Decode(&answer)
	case http.StatusServiceUnavailable:
		if after, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad != nil || after < 1 {
			t.Errorf("503 with Retry-After %q", resp.Header.Get("Retry-After"))
		}
	}
	return resp.StatusCode, answer.ID, err
}

// submit posts each visit to the first web-api until that answers 201, and returns the event IDs.
// It fails the test for any other answer than 201 and 503, and for none: the event may have been
// kept then.
func (p *pipeline) submit(vs ...visit) (ids []string) {
	p.t.Helper()
	for _, v := range vs {
		stagetest.Eventually(p.t, "the submission of "+v.Email+" is accepted", func() bool {
			status, id, err := post(p.t, p.web[0].url, v, "")
			if err != nil || (status != http.StatusCreated && status != http.StatusServiceUnavailable) {
				p.t.Fatalf("POST /distance of %+v: %d, %v; want 201, or 503 for a while", v, status, err)
			}
			if status == http.StatusCreated {
				ids = append(ids, id)
			}
			return status == http.StatusCreated
		})
	}
	return ids
}

// visits makes n submissions with addresses that begin with name, each from another place.
func visits(name string, n int) []visit {
	out := make([]visit, n)
	for i := range out {
		out[i] = visit{fmt.Sprintf("%s-%d@example.com", name, i), fmt.Sprintf("%d.5", i%80), fmt.Sprintf("-%d.25", i%170)}
	}
	return out
}

// line is the article's, to the letter.
var line = regexp.MustCompile(`^\d\d:\d\d:\d\d,\d{3} root INFO Email sent to: (\S+); Message: You are (\d\S*) miles from Velocity\.$`)

// lines are those of the log.
type lines struct {
	of    map[string]int    // by address
	miles map[string]string // in the last line of each address
	total int               // with those that are not complete
}

// sent reads the logs and what they were renamed to. A complete line that is not the article's
// fails the test.
func (p *pipeline) sent() lines {
	p.t.Helper()
	found := lines{of: map[string]int{}, miles: map[string]string{}}
	var files []string
	for _, log := range append([]string{p.log}, p.logs...) {
		found, err := filepath.Glob(log + "*")
		stagetest.OK(p.t, err)
		files = append(files, found...)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.IsDir() { // the journal is a folder beside the log
			continue
		}
		b, err := os.ReadFile(f)
		stagetest.OK(p.t, err)
		for text := range strings.Lines(string(b)) {
			found.total++
			m := line.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
			switch {
			case !strings.HasSuffix(text, "\n"): // it is being written
			case m == nil:
				p.t.Fatalf("%s has a line that is not the article's: %q", f, text)
			default:
				found.of[m[1]]++
				found.miles[m[1]] = m[2]
			}
		}
	}
	return found
}

// written waits until the log has n lines for an address.
func (p *pipeline) written(email string, n int) {
	p.t.Helper()
	stagetest.Eventually(p.t, fmt.Sprintf("%s has %d lines in sent_emails", email, n), func() bool { return p.sent().of[email] >= n })
}

// delivered waits until the log has a line for each address and nothing is left to do. It fails the
// test unless the log has exactly one line for each of them, and no other.
func (p *pipeline) delivered(emails ...string) {
	p.t.Helper()
	for _, e := range emails {
		p.written(e, 1)
	}
	p.idle()
	found := p.sent()
	for _, e := range emails {
		if found.of[e] != 1 {
			p.t.Errorf("%s has %d lines in sent_emails, want 1", e, found.of[e])
		}
	}
	if len(found.of) != len(emails) {
		p.t.Errorf("sent_emails has lines of %d addresses, want %d", len(found.of), len(emails))
	}
}

// addresses are those of the submissions.
func addresses(vs ...visit) []string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = v.Email
	}
	return out
}

// look opens the pipeline as the operator's tool does.
func (p *pipeline) look() *inspect.Pipeline {
	p.t.Helper()
	return inspect.New(p.open())
}

func (p *pipeline) open() *stage.Broker {
	p.t.Helper()
	b, err := stage.Open(stage.Options{Redis: p.at, Prefix: p.names, Shards: -1, Log: slog.New(slog.DiscardHandler)})
	stagetest.OK(p.t, err)
	p.t.Cleanup(func() { b.Close() })
	return b
}

// hops are the channels between the services, in order.
var hops = []string{event.RawInput, event.CalculatedDistance, event.UserEmail}

// unsettled tells what the groups have left to do on all channels, "" if nothing, and counts it.
// With running it leaves out the groups that no process works for.
func (p *pipeline) unsettled(look *inspect.Pipeline, running bool) (what string, n int) {
	for _, c := range hops {
		s, err := look.Status(p.t.Context(), c)
		if err != nil {
			return err.Error(), 0
		}
		n += s.Due
		if s.Due > 0 {
			what += fmt.Sprintf(" %s: %d retries are not yet due.", c, s.Due)
		}
		for _, g := range s.Groups {
			works := slices.ContainsFunc(g.Consumers, func(c inspect.ConsumerStatus) bool { return c.State != "gone" })
			if g.Backlog > 0 && (works || !running) {
				n += g.Backlog
				what += fmt.Sprintf(" %s: %d unsettled by %s, of these %d pending %+v.", c, g.Backlog, g.Name, g.Pending, g.Consumers)
			}
		}
	}
	return what, n
}

// idle waits until no running stage has anything left to do on any channel. It looks twice, because
// an entry that leaves one channel after the look may enter the next.
func (p *pipeline) idle() {
	p.t.Helper()
	look, quiet := p.look(), 0
	stagetest.Eventually(p.t, "the pipeline is idle", func() bool {
		quiet++
		if what, _ := p.unsettled(look, true); what != "" {
			quiet = 0
		}
		return quiet >= 2
	})
}

// dead waits until channel has n dead letters and returns them.
func (p *pipeline) dead(channel string, n int) []inspect.DeadLetter {
	p.t.Helper()
	look := p.look()
	var letters []inspect.DeadLetter
	stagetest.Eventually(p.t, fmt.Sprintf("%s has %d dead letters", channel, n), func() bool {
		var err error
		if letters, err = look.DeadLetters(p.t.Context(), channel, "", n+1); err != nil {
			p.t.Fatal(err)
		}
		return len(letters) >= n
	})
	if len(letters) != n {
		p.t.Fatalf("%s has over %d dead letters: %+v", channel, n, letters)
	}
	return letters
}

// alive fails the test if one of the services has ended or is not ready.
func alive(t testing.TB, services []*service) {
	t.Helper()
	for _, s := range services {
		if !s.Running() {
			t.Errorf("%s has ended", s.Name)
			continue
		}
		s.Ready()
	}
}

// run runs a program as an operator does who has the services' programs on the PATH and REDIS_URL
// set.
func (p *pipeline) run(args ...string) (output string, code int) {
	p.t.Helper()
	env := []string{"PATH=" + p.bin + ":" + os.Getenv("PATH"), "REDIS_URL=" + p.url, "TZ=UTC"}
	return process.Run(p.t, filepath.Dir(p.log), env, append([]string{"/bin/sh", "-c", `exec "$@"`, "sh"}, args...)...)
}

// must is run for a program that must succeed. It returns the output.
func (p *pipeline) must(args ...string) string {
	p.t.Helper()
	out, code := p.run(args...)
	if code != 0 {
		p.t.Fatalf("%q: exit status %d\n%s", args, code, out)
	}
	return out
}

// cli runs redis-cli on the pipeline's Redis.
func (p *pipeline) cli(args ...string) {
	p.t.Helper()
	url, _, _ := strings.Cut(p.url, "?") // redis-cli knows no addr=
	p.must(append([]string{"redis-cli", "-u", url}, args...)...)
}

// users is the collection of the documents.
type users struct{ *mongo.Collection }

func (p *pipeline) users() users {
	p.t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(p.mongo).SetTimeout(process.Patience))
	stagetest.OK(p.t, err)
	p.t.Cleanup(func() { _ = c.Disconnect(context.Background()) }) // nothing is under way
	return users{c.Database("milepost").Collection(records.Collection)}
}

// has waits until the documents of these events are stored.
func (u users) has(t testing.TB, ids ...string) {
	t.Helper()
	stagetest.Eventually(t, "the documents are stored", func() bool {
		n, err := u.CountDocuments(t.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
		stagetest.OK(t, err)
		return int(n) == len(ids)
	})
}

// take deletes documents and returns them.
func (u users) take(t testing.TB, ids ...string) (taken []bson.Raw) {
	t.Helper()
	for _, id := range ids {
		raw, err := u.FindOneAndDelete(t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
		if err != nil {
			t.Fatalf("delete document %s: %v", id, err)
		}
		taken = append(taken, raw)
	}
	return taken
}

// give restores documents.
func (u users) give(t testing.TB, taken []bson.Raw) {
	t.Helper()
	for _, raw := range taken {
		if _, err := u.InsertOne(t.Context(), raw); err != nil {
			t.Fatalf("restore a document: %v", err)
		}
	}
}
