package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

func rendered(t *testing.T, release, over string) []runtime.Object {
	t.Helper()
	documents, _ := render(t, release, values(t, "", over))
	return objects(t, documents)
}

func names[T runtime.Object](all []runtime.Object) []string {
	var found []string
	for _, o := range all {
		if _, ok := o.(T); ok {
			found = append(found, name(o))
		}
	}
	slices.Sort(found)
	return found
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

// A new service needs its adminPort only: it becomes a Deployment that reaches the broker, and
// nothing else.
func TestNewService(t *testing.T) {
	before, after := rendered(t, "milepost", ""), rendered(t, "milepost", "components: {tide: {adminPort: 9106}}")
	tide := find[*appsv1.Deployment](t, after, "milepost-tide").Spec.Template
	if got := env(tide); got["REDIS_HOST"] != "milepost-broker" || got["ADMIN_LISTEN"] != ":9106" || got["LISTEN"] != "" || got["MONGO_HOST"] != "" {
		t.Errorf("its environment: %v", got)
	}
	if image := tide.Spec.Containers[0].Image; image != "ghcr.io/milepost/tide:0.1.0" || len(after) != len(before)+2 { // and a network policy
		t.Errorf("its image is %s, and %d objects are added", image, len(after)-len(before))
	}
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

// One process writes the log. Another one is a standby if it has the same volume; only then may a
// pod start before the last one ends. The volume outlives the release.
func TestOneWriter(t *testing.T) {
	for values, want := range map[string]struct {
		replicas int32
		recreate bool
		sameNode bool
	}{
		"default":          {1, false, true},
		"standby":          {2, false, true},
		"standby-anywhere": {2, false, false},
		"one-pod-volume":   {1, true, false},
		"laptop":           {1, true, false},
		"production":       {1, false, true}, // an existing claim
	} {
		documents, _ := render(t, "milepost", sets(t)[values])
		all := objects(t, documents)
		d := find[*appsv1.Deployment](t, all, "milepost-email")
		pod := d.Spec.Template.Spec
		if recreate := d.Spec.Strategy.RollingUpdate == nil; *d.Spec.Replicas != want.replicas || recreate != want.recreate {
			t.Errorf("%s: %d replicas, %+v", values, *d.Spec.Replicas, d.Spec.Strategy)
		}
		sameNode := pod.Affinity != nil && slices.ContainsFunc(pod.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, func(a corev1.PodAffinityTerm) bool {
			return a.TopologyKey == "kubernetes.io/hostname" && matches(a.LabelSelector, d.Spec.Template.Labels)
		})
		if sameNode != want.sameNode {
			t.Errorf("%s: all pods on one node: %t, want %t: %+v", values, sameNode, want.sameNode, pod.Affinity)
		}
		// Both pods of a node could never be evicted.
		if budget := slices.Contains(names[*policyv1.PodDisruptionBudget](all), "milepost-email"); budget != (values == "standby-anywhere") {
			t.Errorf("%s: a disruption budget: %t", values, budget)
		}
		if c := pod.Containers[0]; c.WorkingDir != "/var/lib/milepost" || c.VolumeMounts[0].MountPath != c.WorkingDir || env(d.Spec.Template)["SENT_EMAILS"] != "" {
			t.Errorf("%s: email works in %s, its volume is at %s: sent_emails is not in it", values, c.WorkingDir, c.VolumeMounts[0].MountPath)
		}
		for _, claim := range names[*corev1.PersistentVolumeClaim](all) {
			if find[*corev1.PersistentVolumeClaim](t, all, claim).Annotations["helm.sh/resource-policy"] != "keep" {
				t.Errorf("%s: the log's volume goes with the release", values)
			}
		}
		for _, other := range names[*appsv1.Deployment](all) {
			if d := find[*appsv1.Deployment](t, all, other); other != "milepost-email" && (d.Spec.Strategy.RollingUpdate == nil || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0) {
				t.Errorf("%s: %+v; want a rolling update that starts the new pod first", other, d.Spec.Strategy)
			}
		}
	}
}

// Applying the same objects twice changes nothing: Kubernetes gives back what it was given, so that
// kubectl apply and GitOps see no difference.
func TestApplyTwice(t *testing.T) {
	for title, v := range sets(t) {
		documents, _ := render(t, "milepost", v)
		for _, d := range documents {
			// A patch always has the selector of a budget: Kubernetes replaces it whole.
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
	if err := yaml.Unmarshal([]byte(read("alerts.yml")), &rules); err != nil {
		t.Fatal(err)
	}
	if got := find[*unstructured.Unstructured](t, all, "milepost-alerts").Object["spec"].(map[string]any)["groups"]; !reflect.DeepEqual(got, rules.Groups) {
		t.Errorf("the rules are not those of alerts.yml: %v", got)
	}
}
