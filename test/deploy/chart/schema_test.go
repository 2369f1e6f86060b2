package chart

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// helm lint has nothing to say.
func TestLint(t *testing.T) {
	for name, v := range sets(t) {
		for _, m := range lint.All(chartDir, v, "default", true).Messages {
			if m.Severity > support.UnknownSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// Kubernetes 1.27, the oldest version that the chart supports, and 1.33 have every field of every
// rendering. Their schemas are made by testdata/kubernetes.jq.
func TestSchema(t *testing.T) {
	// The check can fail: sleep as a lifecycle hook came with 1.29.
	newer := "{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, lifecycle: {preStop: {sleep: {seconds: 3}}}}]}}"
	for version, refusesNewer := range map[string]bool{"1.27": true, "1.33": false} {
		check := schema(t, "testdata/kubernetes-"+version+".json")
		for title, v := range sets(t) {
			documents, _ := render(t, "milepost", v)
			for _, d := range documents {
				if operators.MatchString(d) {
					continue
				}
				if err := check(d); err != nil {
					t.Errorf("%s, Kubernetes %s: %v\n%s", title, version, err, d)
				}
			}
		}
		if err := check(newer); (err != nil) != refusesNewer {
			t.Errorf("Kubernetes %s, a field newer than 1.27: %v", version, err)
		}
	}
}

// schema returns a check of a document against a version's kinds.
func schema(t *testing.T, path string) func(document string) error {
	t.Helper()
	f, err := os.Open(path)
	stagetest.OK(t, err)
	defer f.Close()
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	stagetest.OK(t, compiler.AddResource("kubernetes.json", must(jsonschema.UnmarshalJSON(f))))
	return func(text string) error {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			return err
		}
		api, version, grouped := strings.Cut(o["apiVersion"].(string), "/")
		if !grouped {
			api, version = "core", api
		}
		api, _, _ = strings.Cut(api, ".")
		return must(compiler.Compile("kubernetes.json#/definitions/io.k8s.api." + api + "." + version + "." + o["kind"].(string))).Validate(o)
	}
}
