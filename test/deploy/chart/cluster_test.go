package chart

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// cluster is one that templates look into, as helm install and helm upgrade let them.
type cluster struct{ dynamic.Interface }

func (c cluster) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	if apiVersion != "v1" || kind != "Secret" {
		panic("only secrets are looked up, not " + apiVersion + " " + kind)
	}
	return c.Resource(corev1.SchemeGroupVersion.WithResource("secrets")), true, nil
}

// An upgrade keeps the passwords that the installation made, and a new installation that of the
// volume that was left.
func TestUpgradeKeepsPasswords(t *testing.T) {
	secret := func(role string, data map[string][]byte) *corev1.Secret {
		return &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "milepost-" + role, Namespace: "default"}, Data: data}
	}
	there := cluster{fake.NewSimpleDynamicClient(scheme.Scheme,
		secret("broker", map[string][]byte{"password": []byte("first one")}), secret("mongo", map[string][]byte{"other": []byte("of no use")}))}
	c := load(t)
	v, err := chartutil.ToRenderValues(c, values(t, "", "{broker: {auth: {enabled: true}}, cache: {auth: {enabled: true}}, mongo: {auth: {enabled: true}}}"),
		chartutil.ReleaseOptions{Name: "milepost", Namespace: "default", IsUpgrade: true}, nil)
	stagetest.OK(t, err)
	rendered, err := engine.RenderWithClientProvider(c, v, there)
	stagetest.OK(t, err)
	var all []runtime.Object
	for d := range strings.SplitSeq(rendered["milepost/templates/secrets.yaml"], "---\n") {
		if strings.TrimSpace(d) != "" {
			all = append(all, objects(t, []string{d})...)
		}
	}
	if got := find[*corev1.Secret](t, all, "milepost-broker").Data["password"]; string(got) != "first one" {
		t.Errorf("the broker's password was %q and is now %q", "first one", got)
	}
	for _, role := range []string{"cache", "mongo"} {
		s := find[*corev1.Secret](t, all, "milepost-"+role)
		if len(s.Data["password"]) != 32 {
			t.Errorf("%s has no new password: %q", role, s.Data["password"])
		}
		if kept := s.Annotations["helm.sh/resource-policy"] == "keep"; kept != (role == "mongo") {
			t.Errorf("%s: its secret outlives the release: %v; its volume's password must, the others need not", role, kept)
		}
	}
}

// Another chart can have this one among its dependencies.
func TestSubchart(t *testing.T) {
	parent := &chart.Chart{
		Metadata: &chart.Metadata{APIVersion: "v2", Name: "site", Version: "1.0.0", Dependencies: []*chart.Dependency{{Name: "milepost", Version: "*", Condition: "milepost.enabled"}}},
		Values:   map[string]any{"milepost": map[string]any{"enabled": true}},
	}
	parent.AddDependency(load(t))
	documents, _, err := tryRender(parent, "blue", values(t, "", "{global: {imageRegistry: registry.example.com, ours: 1}, milepost: {components: {distance: {replicas: 3}}}}"))
	stagetest.OK(t, err)
	p := pods(objects(t, documents))
	if image := p["blue-milepost-broker"].Spec.Containers[0].Image; len(p) != 10 || image != "registry.example.com/redis:7.4-alpine" {
		t.Errorf("%d kinds of pods, the broker's image is %s", len(p), image)
	}
}
