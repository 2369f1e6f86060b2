//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestAnyMongo runs db and doctor with a MongoDB that is set wrongly, or that they are told of
// wrongly. db waits and says why; doctor names what mends it. Neither shows the password.
func TestAnyMongo(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	host := strings.Trim(strings.TrimPrefix(p.mongo, "mongodb:"), "/")
	certificates := stagetest.NewCertificates(t)
	for name, tc := range map[string]struct{ env, ready, found, change string }{
		"DNS away":       {"MONGO_URL=mongodb+srv://ada:geheim@mongo.invalid/", "lookup _mongodb._tcp.mongo.invalid", "lookup _mongodb._tcp.mongo.invalid", "look at DNS"},
		"no such host":   {"MONGO_URL=mongodb://ada:geheim@mongo.invalid/", "mongo.invalid", "mongo.invalid", "Correct the host's name"},
		"replica set":    {"MONGO_URL=mongodb://" + host + "/?replicaSet=wrong", `belongs to the replica set "wrong"`, "server selection", "remove replicaSet=wrong from MONGO_URL"},
		"TLS not spoken": {"MONGO_TLS_CA=" + certificates.CA, "mongo is away", "", "unset MONGO_TLS_CA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := p.service("db", tc.env)
			db.Start()
			db.waits(tc.ready)
			f := p.doctor(append(p.env, tc.env))["mongo answers"]
			if f.State != "fail" || !strings.Contains(f.Found, tc.found) || !strings.Contains(f.Change, tc.change) {
				t.Errorf("doctor says %+v, want %q and %q", f, tc.found, tc.change)
			}
			for _, text := range []string{db.Output(), f.Found, f.Change} {
				if strings.Contains(text, "geheim") {
					t.Errorf("the password is shown: %s", text)
				}
			}
			db.Stop()
		})
	}
}
