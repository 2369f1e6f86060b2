//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// anyRedis is a Redis that is set wrongly, or that the programs are told of wrongly.
type anyRedis struct {
	spoil []string // commands of redis-cli
	tls   bool     // the server speaks TLS alone, and wants a certificate of clients
	env   []string // for the programs and doctor; %s is the server's address

	ready string // in /readyz of the programs; "": they are ready
	check string // of doctor that fails
	found string // what it says
	mends string // the command or variables that it names; what the operator knows begins with $
}

var anyRedises = map[string]anyRedis{
	"no channels": {
		spoil: []string{"ACL SETUSER app on >geheim ~* +@all"}, env: []string{"REDIS_URL=redis://app:geheim@%s"},
		ready: "ACL SETUSER app &", check: "redis rights", found: "PUBLISH", mends: "ACL SETUSER app &",
	},
	"no scripting": {
		spoil: []string{"ACL SETUSER app on >geheim ~* &* +@all -@scripting"}, env: []string{"REDIS_URL=redis://app:geheim@%s"},
		ready: "ACL SETUSER app +evalsha +eval", check: "redis rights", found: "EVALSHA", mends: "ACL SETUSER app +evalsha",
	},
	"no keys": {
		spoil: []string{"ACL SETUSER app on >geheim &* +@all"}, env: []string{"REDIS_URL=redis://app:geheim@%s"},
		ready: "ACL SETUSER app ~none", check: "redis rights", found: "HSET", mends: "ACL SETUSER app ~",
	},
	"no database": {
		spoil: []string{"ACL SETUSER app on >geheim ~* &* +@all -select"}, env: []string{"REDIS_URL=redis://app:geheim@%s/1", "KEY_PREFIX=shop:"},
		ready: "ACL SETUSER app +select", check: "redis answers", found: "'select'", mends: "ACL SETUSER app +select",
	},
	"wrong password": {
		spoil: []string{"ACL SETUSER app on >other ~* &* +@all"}, env: []string{"REDIS_URL=redis://%s", "REDIS_USERNAME=app", "REDIS_PASSWORD=geheim"},
		ready: "WRONGPASS", check: "redis answers", found: "WRONGPASS", mends: "ACL SETUSER app on >$PASSWORD",
	},
	"no password": {
		spoil: []string{"CONFIG SET requirepass geheim"}, env: []string{"REDIS_URL=redis://%s"},
		ready: "NOAUTH", check: "redis answers", found: "NOAUTH", mends: "REDIS_PASSWORD=$PASSWORD",
	},
	"read-only": {
		spoil: []string{"REPLICAOF 127.0.0.1 1"}, env: []string{"REDIS_URL=redis://%s"},
		ready: "READONLY", check: "redis rights", found: "READONLY", mends: "REPLICAOF NO ONE",
	},
	"too few replicas": {
		spoil: []string{"CONFIG SET min-replicas-to-write 1"}, env: []string{"REDIS_URL=redis://%s"},
		ready: "NOREPLICAS", check: "redis rights", found: "NOREPLICAS", mends: "CONFIG SET min-replicas-to-write 0",
	},
	"no such database": {
		env:   []string{"REDIS_URL=redis://%s/99", "KEY_PREFIX=shop:"},
		ready: "DB index is out of range", check: "redis answers", found: "DB index is out of range", mends: "REDIS_URL=$URL",
	},
	"full": {
		spoil: []string{"SET ballast %1000000", "CONFIG SET maxmemory 1900000", "CONFIG SET maxmemory-policy noeviction"}, env: []string{"REDIS_URL=redis://%s"},
		check: "redis memory", found: " used, ", mends: "CONFIG SET maxmemory 1gb",
	},
	"evicting": {
		spoil: []string{"CONFIG SET maxmemory-policy allkeys-lru"}, env: []string{"REDIS_URL=redis://%s"},
		check: "redis maxmemory-policy", found: "allkeys-lru", mends: "CONFIG SET maxmemory-policy noeviction",
	},
	"foreign key": {
		spoil: []string{"SET raw_input:due x"}, env: []string{"REDIS_URL=redis://%s"},
		ready: "raw_input:due", check: "redis keys", found: "raw_input:due is a string", mends: "RENAME raw_input:due raw_input:due.foreign",
	},
	"unknown authority": {
		tls: true, env: []string{"REDIS_URL=rediss://%s"},
		ready: "unknown authority", check: "redis answers", found: "unknown authority", mends: "REDIS_TLS_CA=$CA",
	},
	"no certificate": {
		tls: true, env: []string{"REDIS_URL=rediss://%s", "REDIS_TLS_CA=$CA"},
		ready: "certificate required", check: "redis answers", found: "certificate required", mends: "REDIS_TLS_CERT=$CERT",
	},
	"TLS wanted": {
		tls: true, env: []string{"REDIS_URL=redis://%s"},
		ready: "redis is away", check: "redis answers", found: "", mends: "REDIS_TLS_CA=$CA",
	},
	"TLS not spoken": {
		env:   []string{"REDIS_URL=rediss://%s"},
		ready: "does the server speak TLS", check: "redis answers", found: "no TLS", mends: "REDIS_URL=$URL",
	},
	"no such host": {
		env:   []string{"REDIS_HOST=redis.invalid"},
		ready: "redis.invalid", check: "redis answers", found: "redis.invalid", mends: "REDIS_URL=$URL",
	},
}

// TestAnyRedis runs programs and doctor against servers that are set wrongly. The programs refuse
// submissions with 503 and say why in /readyz; doctor names what is wrong and the line that mends
// it, and with that line all is well.
func TestAnyRedis(t *testing.T) {
	t.Parallel()
	for name, x := range anyRedises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x.run(t)
		})
	}
}

func (x anyRedis) run(t *testing.T) {
	certificates := stagetest.NewCertificates(t)
	p := &pipeline{t: t, bin: builds.programs(t, "")}
	if x.tls {
		p.redis = stagetest.Secure(t, certificates, stagetest.Durable...)
	} else {
		p.redis = stagetest.Real(t, stagetest.Durable...)
	}
	admin := p.redis.Client()
	known := strings.NewReplacer("$PASSWORD", "geheim", "<password>", "geheim", "$CERT", certificates.Cert, "$KEY", certificates.Key, "$CA", certificates.CA, "$URL", "redis://"+p.redis.Addr)
	for _, line := range x.spoil {
		command(t, admin, line)
	}
	environment := []string{"REDIS_URL="}
	for _, e := range x.env {
		name, value, _ := strings.Cut(strings.ReplaceAll(e, "%s", p.redis.Addr), "=")
		environment = append(environment, name+"="+known.Replace(value))
	}
	p.env = environment
	services := []*service{p.service("web-api"), p.service("distance")}
	for _, s := range services {
		s.Start()
	}
	if x.ready != "" {
		services[1].waits(x.ready)
	}
	for _, s := range services {
		if strings.Contains(s.Output(), "geheim") {
			t.Errorf("%s logs the password", s.Name)
		}
	}
	if x.ready != "" && x.check != "redis keys" { // for which only stages wait
		services[0].waits(x.ready)
		if status, _, err := post(t, services[0].url, golden, ""); err != nil || status != http.StatusServiceUnavailable {
			t.Errorf("POST /distance: %d, %v; want 503", status, err)
		}
	}

	found := p.doctor(environment)
	f := found[x.check]
	if f.State != "fail" || !strings.Contains(f.Found, x.found) {
		t.Fatalf("doctor: %+v, want the check %s to fail with %q", found, x.check, x.found)
	}
	if strings.Contains(fmt.Sprint(found), "geheim") {
		t.Errorf("doctor shows the password: %+v", found)
	}
	x.mend(t, p, f.Change, known, admin)
}

// mend does what doctor says, and checks that this is enough.
func (x anyRedis) mend(t *testing.T, p *pipeline, change string, known *strings.Replacer, admin *redis.Client) {
	variable, value, isVariable := strings.Cut(x.mends, "=")
	if isVariable && !strings.Contains(change, variable) || !isVariable && !strings.Contains(known.Replace(change), known.Replace(x.mends)) {
		t.Fatalf("doctor advises %q, want %s", change, x.mends)
	}
	if isVariable {
		t.Logf("%s=%s", variable, known.Replace(value))
		return
	}
	for range 2 {
		if found := p.doctor(p.env)[x.check]; found.State == "fail" {
			change = known.Replace(found.Change)
			_, line, _ := strings.Cut(change, strings.Fields(x.mends)[0])
			line = strings.Fields(x.mends)[0] + line
			line, _, _ = strings.Cut(line, ". ")
			line, _, _ = strings.Cut(line, ", ")
			command(t, admin, strings.TrimSuffix(line, "."))
		}
	}
	if f := p.doctor(p.env)[x.check]; f.State == "fail" {
		t.Errorf("after that doctor says %+v", f)
	}
	p.submit(golden)
}

// finding is what doctor says of a check.
type finding struct{ Check, State, Found, Change string }

// doctor runs the operator's tool with an environment.
func (p *pipeline) doctor(env []string) map[string]finding {
	p.t.Helper()
	out, code := process.Run(p.t, p.t.TempDir(), slices.Concat(env, []string{"PATH=" + p.bin}), p.bin+"/milepostctl", "doctor", "--output", "json")
	all := map[string]finding{}
	for line := range strings.Lines(out) {
		var f finding
		if json.Unmarshal([]byte(line), &f) == nil {
			all[f.Check] = f
		}
	}
	if len(all) == 0 {
		p.t.Fatalf("doctor ended with status %d and said\n%s", code, out)
	}
	return all
}
