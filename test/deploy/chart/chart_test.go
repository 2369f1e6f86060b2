package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func rendered(t *testing.T, release, over string) []runtime.Object {
	t.Helper()
	documents, _ := render(t, release, values(t, "", over))
	return objects(t, documents)
}

// env are a pod's variables; one from a secret is written as secret/key.
func env(p corev1.PodTemplateSpec) map[string]string {
	all := map[string]string{}
	for _, e := range p.Spec.Containers[0].Env {
		all[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			all[e.Name] = e.ValueFrom.SecretKeyRef.Name + "/" + e.ValueFrom.SecretKeyRef.Key
		}
	}
	return all
}

// Numbers and switches reach the services as they were written, whatever YAML and Helm make of
// them, and a component's go before those of all.
func TestEnvironment(t *testing.T) {
	got := env(pods(rendered(t, "milepost", `
config: {MAX_BACKLOG: 1000000, OFFICE_LAT: 32.080058, OFFICE_LONG: -74.0, ADOPT: off, PPROF: on, RATE_LIMIT: "off", LEASE: 5s, MONGO_HOST: elsewhere}
components: {db: {env: {LEASE: 20s, MAX_DEAD: 10000000}, resources: {limits: {memory: 1.5Gi}}}}`))["milepost-db"])
	for name, want := range map[string]string{"MAX_BACKLOG": "1000000", "OFFICE_LAT": "32.080058", "OFFICE_LONG": "-74", "ADOPT": "off", "PPROF": "on", "RATE_LIMIT": "off",
		"LEASE": "20s", "MAX_DEAD": "10000000", "MONGO_HOST": "elsewhere", "GOMEMLIMIT": "1288490189"} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
	// What takes requests has them for a while after it was told to stop, and time enough to
	// end after that.
	for called, p := range pods(rendered(t, "milepost", "test: {enabled: false}")) {
		delayed := called == "milepost-web-api" || called == "milepost-users" || called == "milepost-weather"
		if got := env(p)["STOP_DELAY"]; got == "3s" != delayed || *p.Spec.TerminationGracePeriodSeconds < 20 {
			t.Errorf("%s: STOP_DELAY=%q, and %d s to stop", called, got, *p.Spec.TerminationGracePeriodSeconds)
		}
	}
}

// Applying the same objects twice changes nothing: Kubernetes gives back what it was given, so that
// kubectl apply and GitOps see no difference.
func TestApplyTwice(t *testing.T) {
	for title, v := range sets(t) {
		documents, _ := render(t, "milepost", v)
		for _, d := range documents {
			// A patch always has the selector of a budget: Kubernetes replaces it
			// whole.
			if operators.MatchString(d) || strings.Contains(d, "kind: PodDisruptionBudget") {
				continue
			}
			o := objects(t, []string{d})[0]
			live, given := must(json.Marshal(o)), must(yaml.YAMLToJSON([]byte(d)))
			patch, err := strategicpatch.CreateThreeWayMergePatch(given, given, live, must(strategicpatch.NewPatchMetaFromStruct(o)), true)
			if err != nil || string(patch) != "{}" {
				t.Errorf("%s: applying %T %s again changes %s, %v", title, o, name(o), patch, err)
			}
		}
	}
}

// Two releases in one namespace share nothing, and long names stay apart and within what Kubernetes
// takes.
func TestReleases(t *testing.T) {
	long := strings.Repeat("a", 53)
	seen := map[string]string{}
	for _, release := range []string{"milepost", "test", "milepost-2", long, long[:52] + "b"} {
		for _, title := range []string{"default", "production", "new-service", "service-monitor", "tools", "extra-objects"} { // all names
			documents, _ := render(t, release, sets(t)[title])
			for _, o := range objects(t, documents) {
				id := fmt.Sprintf("%T %s", o, name(o))
				if first, ok := seen[id]; ok && first != release {
					t.Errorf("%s is made by the releases %s and %s", id, first, release)
				}
				seen[id] = release
				if part := must(meta.Accessor(o)).GetLabels()["app.kubernetes.io/component"]; !strings.HasSuffix(name(o), "-"+part) && title != "extra-objects" {
					t.Errorf("%s: its name does not end with its component, %s", id, part)
				}
				if len(name(o)) > 63 {
					t.Errorf("%s: its name has %d characters", id, len(name(o)))
				}
				if _, ok := o.(*appsv1.StatefulSet); ok && len(name(o)) > 52 {
					t.Errorf("%s: its name has %d characters; its pods' labels would have too many", id, len(name(o)))
				}
				for k, v := range must(meta.Accessor(o)).GetLabels() {
					if len(v) > 63 {
						t.Errorf("%s: label %s=%s", id, k, v)
					}
				}
			}
		}
	}
}

// A changed configuration starts the Redis anew; another one stays.
func TestChecksums(t *testing.T) {
	sums := func(over string) [2]string {
		p := pods(rendered(t, "milepost", over))
		return [2]string{p["milepost-broker"].Annotations["checksum/config"], p["milepost-cache"].Annotations["checksum/config"]}
	}
	before, after := sums(""), sums("broker: {extraConfig: maxmemory 256mb}")
	if before[0] == after[0] || before[1] != after[1] || len(before[0]) != 64 {
		t.Errorf("checksums %q, then %q", before, after)
	}
}

// The chart's files come to where they are used.
func TestFiles(t *testing.T) {
	read := func(path string) string {
		return strings.TrimSpace(string(must(os.ReadFile(filepath.Join(chartDir, "files", path)))))
	}
	all := rendered(t, "milepost", "{broker: {extraConfig: maxmemory 256mb}, monitoring: {prometheusRule: {enabled: true}, dashboards: {enabled: true}}}")
	for role, extra := range map[string]string{"broker": "\n\n# extraConfig\nmaxmemory 256mb", "cache": ""} {
		data := find[*corev1.ConfigMap](t, all, "milepost-"+role).Data
		if got, want := strings.TrimSpace(data["redis.conf"]), read(role+".conf")+extra; got != want {
			t.Errorf("%s.conf: %s", role, firstDifference(want, got))
		}
		if strings.TrimSpace(data["redis.sh"]) != read("redis.sh") {
			t.Errorf("%s: redis.sh is %s", role, data["redis.sh"])
		}
	}
	dashboards := find[*corev1.ConfigMap](t, all, "milepost-dashboards").Data
	paths := must(filepath.Glob(filepath.Join(chartDir, "files", "dashboards", "*.json")))
	if len(dashboards) != len(paths) || len(paths) == 0 {
		t.Errorf("%d dashboards of %d files", len(dashboards), len(paths))
	}
	for _, path := range paths {
		if base := filepath.Base(path); strings.TrimSpace(dashboards[base]) != read("dashboards/"+base) {
			t.Errorf("dashboard %s is not as in its file", base)
		}
	}
	var rules struct{ Groups any }
	stagetest.OK(t, yaml.Unmarshal([]byte(read("alerts.yml")), &rules))
	if got := find[*unstructured.Unstructured](t, all, "milepost-alerts").Object["spec"].(map[string]any)["groups"]; !reflect.DeepEqual(got, rules.Groups) {
		t.Errorf("the rules are not those of alerts.yml: %v", got)
	}
}
