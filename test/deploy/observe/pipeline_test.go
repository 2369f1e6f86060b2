//go:build unix

package observe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// patience is how long a test waits for what has to happen; machines are slow at times.
const patience = 60 * time.Second

// programs builds standalone and milepostctl, once, and returns the folder they are in.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "milepost-observe-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", dir+"/", "./services/standalone/cmd/standalone", "./services/milepostctl/cmd/milepostctl")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built {
		dir, _ := programs()
		_ = os.RemoveAll(dir) // it is in the system's folder for such things
	}
	os.Exit(code)
}

var built bool

// program is the path of a program, built.
func program(t testing.TB, name string) string {
	t.Helper()
	built = true
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// scraped starts the pipeline, lets things happen to it, and returns what Prometheus has after scraping it four times, as
// if a minute apart, and when the last was. The pipeline has ended by then.
func scraped(t testing.TB) (memory, time.Time) {
	t.Helper()
	s := start(t)
	defer s.stop()
	m, at := memory{}, time.Unix(0, 0)
	for range 4 {
		s.work()
		at = at.Add(time.Minute)
		s.scrape(m, at)
	}
	return m, at
}

// standalone is the whole pipeline in one process, on a redis-server: an embedded one does not tell of its memory.
type standalone struct {
	t                           testing.TB
	cmd                         *exec.Cmd
	log                         string // file with what it writes
	page, admin, users, weather string // addresses
	redis                       string
	round                       int
}

func start(t testing.TB) *standalone {
	t.Helper()
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // as Open-Meteo answers
		if r.URL.Path == "/v1/search" {
			fmt.Fprint(w, `{"results":[{"id":1850147,"name":"Tokyo","latitude":35.6895,"longitude":139.69171,"country_code":"JP","country":"Japan"}]}`)
			return
		}
		fmt.Fprint(w, `{"current":{"time":"2026-01-01T00:00","interval":900,"temperature_2m":21.5}}`)
	}))
	t.Cleanup(provider.Close)
	dir := t.TempDir()
	s := &standalone{t: t, log: filepath.Join(dir, "log"), redis: stagetest.Real(t, "--maxmemory", "512mb").Addr}
	s.cmd = exec.Command(program(t, "standalone"))
	s.cmd.Dir = dir
	s.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + dir,
		"LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0", "REDIS_URL=redis://" + s.redis, "EMBEDDED_MONGO=127.0.0.1:0", "RATE_LIMIT=off",
		"WEATHER_PROVIDER_URL=" + provider.URL, "GEOCODING_URL=" + provider.URL,
	}
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	err = errors.Join(s.cmd.Start(), log.Close())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	for _, known := range []struct {
		what    string
		address *string
		pattern string
	}{
		{"its admin port", &s.admin, `admin=(\S+)`},
		{"the page", &s.page, `The page +http://([^/\s]+)`},
		{"users", &s.users, `http://([^/\s]+)/users/ADDRESS`},
		{"weather", &s.weather, `http://([^/\s]+)/api/weather/CITY`},
	} {
		stagetest.Eventually(s.t, "it tells where "+known.what+" is", func() bool {
			said := regexp.MustCompile(known.pattern).FindStringSubmatch(s.output())
			if said != nil {
				*known.address = said[1]
			}
			return said != nil
		})
	}
	stagetest.Eventually(s.t, "it is ready", func() bool {
		r, err := http.Get("http://" + s.admin + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return s
}

// stop ends it, at once if it does not drain. It may be called again.
func (s *standalone) stop() {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	end := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer end.Stop()
	if err := s.cmd.Wait(); err != nil || s.t.Failed() {
		s.t.Logf("standalone ended with %v; its output:\n%s", err, s.output())
	}
}

func (s *standalone) output() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// work lets every part do something: twenty submissions, a bare publish, and the reads.
func (s *standalone) work() {
	s.t.Helper()
	s.round++
	const submissions = 20
	id := ""
	for i := range submissions {
		form := url.Values{"email": {fmt.Sprintf("ada%d@example.com", i)}, "lat": {"40.7128"}, "long": {"-74.0060"}}
		id = s.ask(http.MethodPost, s.page+"/distance", form, http.StatusCreated)
		id = regexp.MustCompile(`[0-9a-f-]{36}`).FindString(id)
	}
	s.ask(http.MethodPost, s.page+"/distance", url.Values{"email": {"nobody"}}, http.StatusUnprocessableEntity)
	s.bare("raw_input", `{"email":"bob@example.com","lat":"35.6762","long":"139.6503"}`)
	stagetest.Eventually(s.t, "all lines are written", func() bool {
		b, _ := os.ReadFile(filepath.Join(filepath.Dir(s.log), "sent_emails")) // there is none at first
		return strings.Count(string(b), "\n") == s.round*(submissions+1)
	})
	s.ask(http.MethodGet, s.page+"/overview?ids="+id+"&lat=40.7128&long=-74.0060", nil, http.StatusOK)
	s.ask(http.MethodGet, s.users+"/users/ada1@example.com", nil, http.StatusOK)
	s.ask(http.MethodGet, fmt.Sprintf("%s/users/nobody%d@example.com", s.users, s.round), nil, http.StatusNotFound)
	s.ask(http.MethodGet, s.weather+"/api/weather/Tokyo", nil, http.StatusOK)
	s.ask(http.MethodGet, fmt.Sprintf("%s/api/weather?lat=%d&long=10", s.weather, 10*s.round), nil, http.StatusOK)
	stagetest.Eventually(s.t, "what the last tick saw is worked off", func() bool { return s.figure("stage_backlog_entries") == 0 })
}

func (s *standalone) ask(method, address string, form url.Values, want int) string {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+address, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != want {
		s.t.Fatalf("%s %s: %d, %v, want %d\n%s", method, address, a.StatusCode, err, want, body)
	}
	return string(body)
}

// bare publishes as a program does that knows nothing of streams.
func (s *standalone) bare(channel, payload string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.redis)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(channel), channel, len(payload), payload)
	b := make([]byte, 64)
	if n, err := c.Read(b); err != nil || b[0] != ':' {
		s.t.Fatalf("PUBLISH %s: %q, %v", channel, b[:n], err)
	}
}

// figure is the sum of a metric's series now.
func (s *standalone) figure(name string) float64 {
	m := memory{}
	s.scrape(m, time.Unix(0, 0))
	v := m.ask(s.t, "sum("+name+")", time.Unix(0, 0))
	if len(v) == 0 {
		return -1
	}
	return v[0].F
}

// targetLabels are those that Prometheus gives to what it scrapes from a pod.
var targetLabels = []string{"job", "shop/milepost-services", "namespace", "shop", "pod", "milepost-standalone-0", "container", "standalone", "instance", "10.0.0.7:9110"}

// scrape adds what the admin port says to m, as Prometheus does.
func (s *standalone) scrape(m memory, at time.Time) {
	s.t.Helper()
	text := s.ask(http.MethodGet, s.admin+"/metrics", nil, http.StatusOK)
	p := textparse.NewPromParser([]byte(text), labels.NewSymbolTable(), false)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.t.Fatalf("/metrics: %v", err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, v := p.Series()
		var l labels.Labels
		p.Labels(&l)
		m.add(target(s.t, l), at, v)
	}
	m.add(target(s.t, labels.FromStrings("__name__", "up")), at, 1)
}

// target adds a target's labels to a series. Prometheus would rename one of the program's that has the same name.
func target(t testing.TB, l labels.Labels) labels.Labels {
	t.Helper()
	b := labels.NewBuilder(l)
	for i := 0; i < len(targetLabels); i += 2 {
		if l.Has(targetLabels[i]) {
			t.Fatalf("%s has the label %s, which is Prometheus' own", l, targetLabels[i])
		}
		b.Set(targetLabels[i], targetLabels[i+1])
	}
	return b.Labels()
}
