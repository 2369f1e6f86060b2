//go:build unix

package e2e

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// aclPage has the smallest rights of each program.
const aclPage = root + "/deploy/ACL.md"

var aclLine = regexp.MustCompile(`(?m)^ACL SETUSER (\S+) reset on >PASSWORD (.*)$`)

// cutLines cuts the programs' lines out of the page.
func cutLines(page string) (before, after string, ok bool) {
	at := aclLine.FindAllStringIndex(page, -1)
	if len(at) < 6 {
		return page, "", false
	}
	return page[:at[0][0]], page[at[5][1]+1:], true
}

// aclFile writes a file of users for redis-server, as the page has them.
func aclFile(t testing.TB) (path string) {
	t.Helper()
	page, err := os.ReadFile(aclPage)
	stagetest.OK(t, err)
	text := "user default on nopass ~* &* +@all\n"
	for _, m := range aclLine.FindAllStringSubmatch(string(page), -1) {
		text += fmt.Sprintf("user %s on >secret %s\n", m[1], m[2])
	}
	path = t.TempDir() + "/users.acl"
	stagetest.OK(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// TestACL starts every program with a user that may do nothing, and grants what its /readyz and
// doctor ask for, and no more. Then all of it works, and no command is refused. The page has these
// lines (-update writes them).
func TestACL(t *testing.T) {
	t.Parallel()
	p := newPipelineOn(t, nil)
	p.named = true
	services := p.whole()
	for _, s := range services {
		command(t, p.rdb, "ACL SETUSER "+s.Name+" on >secret")
		s.Start()
	}
	var lines strings.Builder
	for _, s := range services {
		rules := p.granted(s)
		slices.SortFunc(rules, func(a, b string) int { // keys, channels, commands
			return cmp.Or(strings.Index("~&+", a[:1])-strings.Index("~&+", b[:1]), strings.Compare(a, b))
		})
		fmt.Fprintf(&lines, "ACL SETUSER %s reset on >PASSWORD %s\n", s.Name, strings.Join(rules, " "))
	}
	alive(t, services)
	p.adopted(all...)

	page, err := os.ReadFile(aclPage)
	stagetest.OK(t, err)
	if before, after, ok := cutLines(string(page)); *update {
		err = os.WriteFile(aclPage, []byte(before+lines.String()+after), 0o644)
	} else if !ok || !strings.Contains(string(page), lines.String()) {
		t.Errorf("%s does not have the lines below; -update writes them\n%s", aclPage, lines.String())
	}
	stagetest.OK(t, err)
	operator := aclLine.FindAllStringSubmatch(string(page), -1)[6]
	command(t, p.rdb, "ACL SETUSER operator on >secret "+operator[2])
	command(t, p.rdb, "ACL LOG RESET")
	p.useAll(services)
	if denied := p.rdb.Do(t.Context(), "ACL", "LOG").Val(); len(denied.([]any)) > 0 {
		t.Errorf("commands were refused: %v", denied)
	}
}

// command runs a line of redis-cli. A word %N stands for N bytes.
func command(t testing.TB, rdb *redis.Client, line string) {
	t.Helper()
	var words []any
	for _, w := range strings.Fields(line) {
		if n := 0; strings.HasPrefix(w, "%") {
			_, _ = fmt.Sscanf(w, "%%%d", &n)
			w = strings.Repeat("x", n)
		}
		words = append(words, w)
	}
	if err := rdb.Do(t.Context(), words...).Err(); err != nil {
		t.Fatalf("%.100s: %v", line, err)
	}
}

// granted gives a service's user what doctor says that it lacks, until that is nothing, and returns
// the rules. The service says the same.
func (p *pipeline) granted(s *service) (rules []string) {
	p.t.Helper()
	env := []string{"REDIS_URL=" + p.url, "REDIS_USERNAME=" + s.Name, "REDIS_PASSWORD=secret"}
	for {
		found := p.doctor(env)
		f := found["redis answers"] // PING, for doctor alone
		for _, check := range []string{"redis rights", "cache rights"} {
			if f.State != "fail" {
				f = found[check]
			}
		}
		if f.State != "fail" {
			return rules
		}
		if f.Check == "redis rights" {
			stagetest.Eventually(p.t, s.Name+" asks for what doctor names: "+f.Change, func() bool {
				_, body, err := ask(p.t.Context(), http.MethodGet, "http://"+s.admin+"/readyz")
				return err == nil && strings.Contains(body, f.Change+"\n")
			})
		}
		command(p.t, p.rdb, f.Change)
		for _, rule := range strings.Fields(f.Change)[3:] {
			if !slices.Contains(rules, rule) && !strings.HasPrefix(rule, "reset") {
				rules = append(rules, rule)
			}
		}
	}
}

// useAll uses all services of whole, restarts them, and then runs the operator's tool.
func (p *pipeline) useAll(services []*service) {
	p.t.Helper()
	vs := visits("acl", 20)
	p.submit(vs...)
	p.delivered(addresses(vs...)...)
	users, weather, web := services[0], services[1], services[2]
	for range 2 { // loaded, then from the cache
		for _, url := range []string{
			users.url + "/users/" + vs[0].Email, weather.url + "/api/weather/paris", web.url + "/overview?lat=40.7128&long=-74.0060",
		} {
			if status, body, err := ask(p.t.Context(), http.MethodGet, url); err != nil || status != http.StatusOK {
				p.t.Errorf("GET %s: %d, %v %s", url, status, err, body)
			}
		}
	}
	for _, s := range services {
		s.Stop() // it hands its work back, and its successor starts anew
		s.Start()
	}
	alive(p.t, services)
	id := p.submit(golden)[0]
	p.written(golden.Email, 1)
	for _, args := range [][]string{
		{"status"}, {"doctor"}, {"dead", "list"}, {"group", "list"}, {"find", id}, {"publish", "email:sent", "{}"},
	} {
		env := []string{"REDIS_URL=" + p.url, "REDIS_USERNAME=operator", "REDIS_PASSWORD=secret", "MONGO_URL=" + p.mongo}
		stagetest.Eventually(p.t, fmt.Sprintf("milepostctl %q works for the operator", args), func() bool { // slow answers are no lack of rights
			out, code := process.Run(p.t, p.t.TempDir(), env, append([]string{p.bin + "/milepostctl"}, args...)...)
			if code != 0 {
				p.t.Logf("exit status %d\n%s", code, out)
			}
			return code == 0
		})
	}
}
