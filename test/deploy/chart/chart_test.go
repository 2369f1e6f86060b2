package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
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

// A service that only reads a channel is a Deployment and nothing else. The stores and what answers requests are Services.
func TestServices(t *testing.T) {
	all := rendered(t, "milepost", "components: {tide: {adminPort: 9106}}")
	if got, want := names[*corev1.Service](all), []string{"milepost-broker", "milepost-cache", "milepost-mongo", "milepost-users", "milepost-weather", "milepost-web-api"}; !slices.Equal(got, want) {
		t.Errorf("services %q, want %q", got, want)
	}
	want := []string{"milepost-db", "milepost-distance", "milepost-email", "milepost-tide", "milepost-users", "milepost-weather", "milepost-web-api"}
	if got := names[*appsv1.Deployment](all); !slices.Equal(got, want) {
		t.Errorf("deployments %q, want %q", got, want)
	}
	tide := find[*appsv1.Deployment](t, all, "milepost-tide").Spec.Template
	if got := env(tide); got["REDIS_HOST"] != "milepost-broker" || got["ADMIN_LISTEN"] != ":9106" || got["LISTEN"] != "" || got["MONGO_HOST"] != "" {
		t.Errorf("a new service's environment: %v", got)
	}
	if image := tide.Spec.Containers[0].Image; image != "milepost/tide:0.1.0" {
		t.Errorf("a new service's image: %s", image)
	}
}

// Numbers and switches reach the services as they were written, whatever YAML and Helm make of them, and a component's go
// before those of all.
func TestEnvironment(t *testing.T) {
	got := env(pods(rendered(t, "milepost", "config: {MAX_BACKLOG: 1000000, OFFICE_LAT: 32.080058, OFFICE_LONG: -74.0, ADOPT: off, PPROF: on, RATE_LIMIT: \"off\", TZ: Asia/Jerusalem, LEASE: 5s}\ncomponents: {db: {env: {LEASE: 20s, MAX_DEAD: 10000000}}}"))["milepost-db"])
	for name, want := range map[string]string{"MAX_BACKLOG": "1000000", "OFFICE_LAT": "32.080058", "OFFICE_LONG": "-74", "ADOPT": "off", "PPROF": "on", "RATE_LIMIT": "off",
		"TZ": "Asia/Jerusalem", "LEASE": "20s", "MAX_DEAD": "10000000"} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
	// What takes requests has them for a while after it was told to stop, and time enough to end after that.
	for called, p := range pods(rendered(t, "milepost", "test: {enabled: false}")) {
		delayed := called == "milepost-web-api" || called == "milepost-users" || called == "milepost-weather"
		if got := env(p)["STOP_DELAY"]; got == "3s" != delayed || *p.Spec.TerminationGracePeriodSeconds < 20 {
			t.Errorf("%s: STOP_DELAY=%q, and %d s to stop", called, got, *p.Spec.TerminationGracePeriodSeconds)
		}
	}
	for called, p := range pods(rendered(t, "milepost", "statusPage: {enabled: true}")) {
		if got := env(p)["STATUS_PAGE"]; got != "" != (called == "milepost-web-api") {
			t.Errorf("%s: STATUS_PAGE=%q", called, got)
		}
	}
}

// One process writes the log: the next one starts when the last one has ended, on the same volume, which outlives the release.
func TestOneWriter(t *testing.T) {
	all := rendered(t, "milepost", "")
	d := find[*appsv1.Deployment](t, all, "milepost-email")
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || d.Spec.Strategy.RollingUpdate != nil {
		t.Errorf("email: %d replicas, %+v", *d.Spec.Replicas, d.Spec.Strategy)
	}
	c := d.Spec.Template.Spec.Containers[0]
	if c.WorkingDir != "/var/lib/milepost" || c.VolumeMounts[0].MountPath != c.WorkingDir || env(d.Spec.Template)["SENT_EMAILS"] != "" {
		t.Errorf("email works in %s, its volume is at %s: sent_emails is not in it", c.WorkingDir, c.VolumeMounts[0].MountPath)
	}
	claim := find[*corev1.PersistentVolumeClaim](t, all, d.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
	if claim.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Error("the log's volume goes with the release")
	}
	for _, other := range names[*appsv1.Deployment](all) {
		if d := find[*appsv1.Deployment](t, all, other); other != "milepost-email" && (d.Spec.Strategy.RollingUpdate == nil || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0) {
			t.Errorf("%s: %+v; want a rolling update that starts the new pod first", other, d.Spec.Strategy)
		}
	}
}

// Two releases in one namespace share nothing, and long names stay apart and within what Kubernetes takes.
func TestReleases(t *testing.T) {
	long := strings.Repeat("a", 53)
	seen := map[string]string{}
	for _, release := range []string{"milepost", "test", "milepost-2", long, long[:52] + "b"} {
		for _, path := range files(t) {
			documents, _ := render(t, release, values(t, path, ""))
			for _, o := range objects(t, documents) {
				id := fmt.Sprintf("%T %s", o, name(o))
				if first, ok := seen[id]; ok && first != release && !strings.Contains(id, " post-") { // one has a fullnameOverride
					t.Errorf("%s is made by the releases %s and %s", id, first, release)
				}
				seen[id] = release
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

// Where the stores are, and with which passwords.
func TestStores(t *testing.T) {
	for over, want := range map[string]map[string]string{
		"": {"REDIS_HOST": "milepost-broker", "REDIS_PORT": "6379", "CACHE_REDIS_URL": "redis://milepost-cache:6379/", "MONGO_HOST": "milepost-mongo", "MONGO_PORT": "27017", "MONGO_DATABASE": "milepost"},
		"{broker: {enabled: false, external: {host: r.example.com, port: 6380}}, mongo: {enabled: false, external: {host: m.example.com, port: 27018}, database: other}, cache: {enabled: false}}": {
			"REDIS_HOST": "r.example.com", "REDIS_PORT": "6380", "MONGO_HOST": "m.example.com", "MONGO_PORT": "27018", "MONGO_DATABASE": "other"},
		"{broker: {auth: {enabled: true}}, cache: {auth: {enabled: true, existingSecret: mine, passwordKey: p}}, mongo: {auth: {enabled: true, username: me}}}": {
			"BROKER_PASSWORD": "milepost-broker/password", "REDIS_URL": "redis://:$(BROKER_PASSWORD)@milepost-broker:6379/",
			"CACHE_PASSWORD": "mine/p", "CACHE_REDIS_URL": "redis://:$(CACHE_PASSWORD)@milepost-cache:6379/",
			"MONGO_PASSWORD": "milepost-mongo/password", "MONGO_URL": "mongodb://me:$(MONGO_PASSWORD)@milepost-mongo:27017/?authSource=admin", "MONGO_DATABASE": "milepost"},
		"{broker: {enabled: false, external: {existingSecret: r}}, cache: {enabled: false, external: {existingSecret: c, urlKey: u}}, mongo: {enabled: false, external: {existingSecret: m}}}": {
			"REDIS_URL": "r/url", "CACHE_REDIS_URL": "c/u", "MONGO_URL": "m/url", "MONGO_DATABASE": "milepost"},
		"{broker: {enabled: false, external: {host: r.example.com}, auth: {enabled: true, existingSecret: r}}, config: {MONGO_HOST: elsewhere}}": {
			"BROKER_PASSWORD": "r/password", "REDIS_URL": "redis://:$(BROKER_PASSWORD)@r.example.com:6379/", "CACHE_REDIS_URL": "redis://milepost-cache:6379/",
			"MONGO_HOST": "elsewhere", "MONGO_PORT": "27017", "MONGO_DATABASE": "milepost"},
	} {
		got := env(pods(rendered(t, "milepost", over))["milepost-users"])
		for _, own := range []string{"ADMIN_LISTEN", "LISTEN", "GOMEMLIMIT", "STOP_DELAY"} {
			delete(got, own)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s\n%v, want\n%v", over, got, want)
		}
	}
	if all := rendered(t, "milepost", "{broker: {enabled: false, external: {host: r}}, cache: {enabled: false}, mongo: {enabled: false, external: {host: m}}}"); len(names[*appsv1.StatefulSet](all)) != 0 {
		t.Errorf("stores that are elsewhere are run here: %q", names[*appsv1.StatefulSet](all))
	}
}

// The values of one's own secret go before generated ones, which are random.
func TestPasswords(t *testing.T) {
	first := rendered(t, "milepost", "broker: {auth: {enabled: true}}")
	second := rendered(t, "milepost", "broker: {auth: {enabled: true}}")
	a, b := find[*corev1.Secret](t, first, "milepost-broker").Data["password"], find[*corev1.Secret](t, second, "milepost-broker").Data["password"]
	if len(a) != 32 || string(a) == string(b) {
		t.Errorf("generated passwords: %q, then %q", a, b)
	}
	if got := names[*corev1.Secret](rendered(t, "milepost", "broker: {auth: {enabled: true, existingSecret: mine}}")); len(got) != 0 {
		t.Errorf("secrets beside one's own: %q", got)
	}
	server := env(pods(first)["milepost-broker"])
	if server["REDIS_PASSWORD"] != "milepost-broker/password" || server["REDISCLI_AUTH"] != "milepost-broker/password" {
		t.Errorf("the server's environment: %v", server)
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
		if strings.TrimSpace(data["start.sh"]) != read("redis.sh") {
			t.Errorf("%s: start.sh is %s", role, data["start.sh"])
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
	rules := find[*PrometheusRule](t, all, "milepost-alerts").Spec.Groups
	if n := strings.Count(read("alerts.yml"), "- alert:"); n == 0 || n != func() (n int) {
		for _, g := range rules {
			n += len(g.Rules)
		}
		return n
	}() {
		t.Errorf("%d groups of rules for %d alerts", len(rules), n)
	}
}

// How many pods there are is said once, by whoever counts them.
func TestScaling(t *testing.T) {
	all := rendered(t, "milepost", "components: {web-api: {autoscaling: {enabled: true}}, distance: {keda: {enabled: true}}, users: {replicas: 2}, weather: {replicas: 2, pdb: false}}")
	for called, want := range map[string]int32{"web-api": -1, "distance": -1, "db": 1, "users": 2} {
		d := find[*appsv1.Deployment](t, all, "milepost-"+called)
		if got := d.Spec.Replicas; got == nil != (want < 0) || got != nil && *got != want {
			t.Errorf("%s: replicas %v, want %d (-1: not said)", called, got, want)
		}
	}
	if got, want := names[*policyv1.PodDisruptionBudget](all), []string{"milepost-users", "milepost-web-api"}; !slices.Equal(got, want) {
		t.Errorf("disruption budgets %q, want %q", got, want)
	}
	if h := find[*autoscalingv2.HorizontalPodAutoscaler](t, all, "milepost-web-api"); h.Spec.ScaleTargetRef.Name != "milepost-web-api" || *h.Spec.MinReplicas != 2 {
		t.Errorf("autoscaler: %+v", h.Spec)
	}
	s := find[*ScaledObject](t, all, "milepost-distance")
	if q := s.Spec.Triggers[0].Metadata["query"]; s.Spec.ScaleTargetRef.Name != "milepost-distance" || q != `max(stage_backlog_entries{namespace="default", pod=~"milepost-distance-.*", stage="distance"})` {
		t.Errorf("scaled object: %+v", s.Spec)
	}
}

// The page's ingress: any host without one, and the client's address from the proxy that is trusted.
func TestIngress(t *testing.T) {
	all := rendered(t, "milepost", "ingress: {enabled: true, className: kong, host: null}")
	i := find[*networkingv1.Ingress](t, all, "milepost-web-api")
	if i.Spec.Rules[0].Host != "" || *i.Spec.IngressClassName != "kong" || i.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name != "milepost-web-api" {
		t.Errorf("ingress: %+v", i.Spec)
	}
	for service, p := range pods(all) {
		if got := env(p)["TRUSTED_PROXIES"]; got != "" != (service == "milepost-web-api") {
			t.Errorf("%s trusts %q", service, got)
		}
	}
	if got := names[*networkingv1.Ingress](rendered(t, "milepost", "")); len(got) != 0 {
		t.Errorf("ingresses without being asked for: %q", got)
	}
}

// What is open, or lost with a pod, is said after an installation; what is not is not.
func TestNotes(t *testing.T) {
	for over, want := range map[string][]string{
		"": {"broker asks for no password", "cache asks for no password", "mongo asks for no password"},
		"{broker: {auth: {enabled: true}}, cache: {auth: {enabled: true}}, mongo: {auth: {enabled: true}}}":                      nil,
		"{broker: {enabled: false, external: {host: r}}, cache: {enabled: false}, mongo: {enabled: false, external: {host: m}}}": nil,
		"{broker: {persistence: {enabled: false}, auth: {enabled: true}}, cache: {enabled: false}, mongo: {auth: {enabled: true}}, networkPolicy: {enabled: false}, components: {email: {persistence: {enabled: false}}}}": {
			"broker has no volume", "email has no volume", "there are no network policies"},
	} {
		_, notes := render(t, "milepost", values(t, "", over))
		if n := strings.Count(notes, "WARNING"); n != len(want) {
			t.Errorf("%s: %d warnings, want %q:\n%s", over, n, want, notes)
		}
		for _, w := range want {
			if !strings.Contains(notes, "WARNING: "+w) {
				t.Errorf("%s: no warning that %s:\n%s", over, w, notes)
			}
		}
		if !strings.Contains(notes, "kubectl exec deploy/milepost-email -- tail -n 20 -F sent_emails") {
			t.Errorf("%s: no word of the log:\n%s", over, notes)
		}
	}
}
