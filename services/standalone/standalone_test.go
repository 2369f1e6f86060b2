package standalone_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/operate/statuspage"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/standalone"
)

// program is what cmd/standalone runs.
var service = program.Program[standalone.Config]{
	Name: "standalone", Admin: "127.0.0.1:9110", Run: standalone.Run, StatusPage: statuspage.New, StatusPageOn: true,
	Commands: map[string]program.Command{"store": standalone.Store},
}

// environment is a whole configuration on free ports, with its files in dir.
func environment(t *testing.T, dir string) map[string]string {
	t.Helper()
	local := func() string { return fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t)) }
	return map[string]string{
		"LISTEN": local(), "ADMIN_LISTEN": local(), "EMBEDDED_REDIS": local(), "EMBEDDED_MONGO": local(),
		"DATA": filepath.Join(dir, "data"), "SENT_EMAILS": filepath.Join(dir, "sent_emails"), "RATE_LIMIT": "off", "ADDRESS_LIMIT": "off", "TZ": "UTC",
		"WEATHER_PROVIDER_URL": "off",
	}
}

// running is a program under way.
type running struct {
	t              *testing.T
	env            map[string]string
	stdout, stderr stagetest.Output
	interrupt      context.CancelFunc
	ended          chan error
}

// start runs the program and waits until it is ready.
func start(t *testing.T, env map[string]string) *running {
	t.Helper()
	r := begin(t, env)
	r.until("ready", func() bool { _, ok := r.ready(); return ok })
	return r
}

// begin runs the program.
func begin(t *testing.T, env map[string]string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, env: env, interrupt: cancel, ended: make(chan error, 1)}
	go func() {
		err := service.Start(ctx, nil, func(name string) string { return env[name] }, &r.stdout, &r.stderr)
		if err != nil {
			fmt.Fprintln(&r.stderr, err)
		}
		r.ended <- err
		close(r.ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.ended
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout.String(), r.stderr.String())
		}
	})
	return r
}

// ready is what /readyz says.
func (r *running) ready() (report string, ok bool) {
	resp, err := http.Get("http://" + r.env["ADMIN_LISTEN"] + "/readyz")
	if err != nil {
		return "", false
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b), resp.StatusCode == http.StatusOK
}

// stop interrupts the program, as Ctrl-C does, and waits for its end.
func (r *running) stop() {
	r.t.Helper()
	r.interrupt()
	if err := <-r.ended; err != nil {
		r.t.Fatalf("after an interrupt the program ended with %v", err)
	}
}

// until waits for a condition. It fails the test at once if the program ends.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	stagetest.Eventually(r.t, what, func() bool {
		select {
		case err := <-r.ended:
			r.t.Fatalf("the program ended with %v before: %s", err, what)
		default:
		}
		return ok()
	})
}

func (r *running) post(email, lat, long string) (id string) {
	r.t.Helper()
	body := fmt.Sprintf(`{"email":%q,"lat":%q,"long":%q}`, email, lat, long)
	resp, err := http.Post("http://"+r.env["LISTEN"]+"/distance", "application/json", strings.NewReader(body))
	stagetest.OK(r.t, err)
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	var receipt struct{ ID string }
	if err := json.Unmarshal(answer, &receipt); err != nil || resp.StatusCode != http.StatusCreated || receipt.ID == "" {
		r.t.Fatalf("POST /distance %s = %d %s; want 201 and an ID", body, resp.StatusCode, answer)
	}
	return receipt.ID
}

func (r *running) log() string {
	b, err := os.ReadFile(r.env["SENT_EMAILS"])
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return string(b)
}

// the line of a submission from New York, with the golden distance.
var newYork = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d,\d{3} root INFO Email sent to: ada@example\.com; ` +
	`Message: You are 5679\.936314229\d* miles from Velocity\.$`)

// A submission becomes one line of the log and of standard output, and one document, on its own
// Redis and on a real one.
func TestSubmissionBecomesALine(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		env := environment(t, t.TempDir())
		env["REDIS_URL"], env["KEY_PREFIX"] = "redis://"+o.Addr+"/3", "shop:"
		submissionBecomesALine(t, env)
		other := *o
		other.DB = 3
		for _, key := range stagetest.Client(t, &other).Keys(t.Context(), "*").Val() {
			if !strings.HasPrefix(key, "shop:") {
				t.Errorf("key %q does not begin with KEY_PREFIX", key)
			}
		}
	})
	t.Run("its own", func(t *testing.T) { t.Parallel(); submissionBecomesALine(t, environment(t, t.TempDir())) })
	t.Run("its own, which REDIS_URL names", func(t *testing.T) {
		t.Parallel()
		env := environment(t, t.TempDir())
		env["REDIS_URL"] = "redis://" + strings.Replace(env["EMBEDDED_REDIS"], "127.0.0.1", "localhost", 1)
		submissionBecomesALine(t, env)
	})
}

func submissionBecomesALine(t *testing.T, env map[string]string) {
	r := start(t, env)
	id := r.post("ada@example.com", "40.7128", "-74.0060")
	r.until("a line in the log", func() bool { return newYork.MatchString(r.log()) })
	r.until("its copy on standard output", func() bool { return newYork.MatchString(r.stdout.String()) })

	docs, err := records.Open("mongodb://"+env["EMBEDDED_MONGO"]+"/", "milepost", 0)
	stagetest.OK(t, err)
	got, err := docs.FindByIDs(t.Context(), []string{id})
	_ = docs.Close(t.Context()) // or the store would wait for it
	if doc := got[id]; err != nil || doc.Email != "ada@example.com" || doc.Lat != "40.7128" || doc.Long != "-74.0060" {
		t.Errorf("document %s = %+v, %v; want what was posted", id, doc, err)
	}
	r.stop()
	if n := strings.Count(r.log(), "\n"); n != 1 {
		t.Errorf("%d lines in the log; want 1:\n%s", n, r.log())
	}
}

// An interrupt right after many submissions loses none of them, although the Redis is memory.
func TestInterruptFinishesWhatWasSubmitted(t *testing.T) {
	t.Parallel()
	r := start(t, environment(t, t.TempDir()))
	const n = 200
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { r.post(fmt.Sprintf("ada%d@example.com", i), "51.5", "-0.1") })
	}
	wg.Wait()
	r.stop()
	for i := range n {
		if c := strings.Count(r.log(), fmt.Sprintf(" ada%d@example.com;", i)); c != 1 {
			t.Errorf("%d lines for submission %d; want 1", c, i)
		}
	}
}

// A port or a folder in use is an error that names its variable, and nothing is left behind. Not in
// parallel: a program that another test starts has a copy of the listener for a moment.
func TestTaken(t *testing.T) {
	for _, name := range []string{"LISTEN", "ADMIN_LISTEN", "EMBEDDED_REDIS", "EMBEDDED_MONGO"} {
		t.Run(name, func(t *testing.T) {
			env := environment(t, t.TempDir())
			l, err := net.Listen("tcp", env[name])
			stagetest.OK(t, err)
			err = service.Start(t.Context(), nil, func(name string) string { return env[name] }, io.Discard, io.Discard)
			if err == nil || !strings.HasPrefix(err.Error(), name+": ") || !strings.Contains(err.Error(), env[name]) {
				t.Errorf("with %s taken: %v; want an error that begins with %s and names the address", name, err, name)
			}
			_ = l.Close()
			start(t, env).stop()
		})
	}
	t.Run("DATA", func(t *testing.T) {
		dir := t.TempDir()
		r := start(t, environment(t, dir))
		env := environment(t, dir)
		err := service.Start(t.Context(), nil, func(name string) string { return env[name] }, io.Discard, io.Discard)
		if err == nil || !strings.HasPrefix(err.Error(), "DATA: ") {
			t.Errorf("with the folder in use: %v; want an error that begins with DATA", err)
		}
		r.stop()
	})
}

func TestWrongCommand(t *testing.T) {
	for _, args := range [][]string{{"store", "--lisen", "x"}, {"store", "now"}, {"stores"}} {
		if err := service.Start(t.Context(), args, os.Getenv, io.Discard, io.Discard); !errors.Is(err, program.ErrUsage) {
			t.Errorf("standalone %s = %v; want ErrUsage", strings.Join(args, " "), err)
		}
	}
}
