package chart

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

// helm lint has nothing to say but that there is no icon.
func TestLint(t *testing.T) {
	for name, path := range files(t) {
		for _, m := range lint.All(chartDir, values(t, path, ""), "default", true).Messages {
			if m.Severity > support.InfoSev || !strings.Contains(m.Err.Error(), "icon is recommended") {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// Kubernetes 1.27, the oldest version that the chart supports, has every field of every rendering.
// Its schema is made by testdata/kubernetes.jq.
func TestSchema(t *testing.T) {
	f, err := os.Open("testdata/kubernetes-1.27.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	if err := compiler.AddResource("kubernetes.json", must(jsonschema.UnmarshalJSON(f))); err != nil {
		t.Fatal(err)
	}
	check := func(text string) error {
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
	for title, path := range files(t) {
		documents, _ := render(t, "milepost", values(t, path, ""))
		for _, d := range documents {
			if operators.MatchString(d) {
				continue
			}
			if err := check(d); err != nil {
				t.Errorf("%s: %v\n%s", title, err, d)
			}
		}
	}
	// The check can fail: sleep as a lifecycle hook came with 1.29.
	newer := "{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, lifecycle: {preStop: {sleep: {seconds: 3}}}}]}}"
	if err := check(newer); err == nil || !strings.Contains(err.Error(), "'sleep' not allowed") {
		t.Errorf("a field newer than 1.27: %v", err)
	}
}
