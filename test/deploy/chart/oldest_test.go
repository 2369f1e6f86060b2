package chart

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

var swagger = flag.String("swagger", "", "api/openapi-spec/swagger.json of k8s.io/kubernetes@v1.27.16: write testdata/kubernetes-1.27.json anew")

const oldest = "testdata/kubernetes-1.27.json"

// kinds are those of Kubernetes that the chart makes, by apiVersion and kind, with their names in its API's description.
var kinds = map[string]string{
	"v1 ConfigMap":                           "io.k8s.api.core.v1.ConfigMap",
	"v1 PersistentVolumeClaim":               "io.k8s.api.core.v1.PersistentVolumeClaim",
	"v1 Pod":                                 "io.k8s.api.core.v1.Pod",
	"v1 Secret":                              "io.k8s.api.core.v1.Secret",
	"v1 Service":                             "io.k8s.api.core.v1.Service",
	"v1 ServiceAccount":                      "io.k8s.api.core.v1.ServiceAccount",
	"apps/v1 Deployment":                     "io.k8s.api.apps.v1.Deployment",
	"apps/v1 StatefulSet":                    "io.k8s.api.apps.v1.StatefulSet",
	"autoscaling/v2 HorizontalPodAutoscaler": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
	"networking.k8s.io/v1 Ingress":           "io.k8s.api.networking.v1.Ingress",
	"networking.k8s.io/v1 NetworkPolicy":     "io.k8s.api.networking.v1.NetworkPolicy",
	"policy/v1 PodDisruptionBudget":          "io.k8s.api.policy.v1.PodDisruptionBudget",
}

// trim takes of the API's description what the kinds need, without texts, and lets no other fields be.
func trim(t *testing.T, path string) {
	t.Helper()
	var api struct{ Definitions map[string]any }
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &api)
	}
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]any{}
	var walk func(v any) any
	keep := func(name string) {
		if _, ok := kept[name]; !ok {
			kept[name] = nil // before its parts, which may name it
			kept[name] = walk(api.Definitions[name])
		}
	}
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			out := map[string]any{}
			for k, part := range v {
				_, text := part.(string)
				switch {
				case k == "description" && text, strings.HasPrefix(k, "x-kubernetes"), k == "default":
				case k == "$ref":
					keep(strings.TrimPrefix(part.(string), "#/definitions/"))
					out[k] = part
				default:
					out[k] = walk(part)
				}
			}
			switch {
			case out["format"] == "int-or-string" || v["description"] != nil && strings.HasPrefix(toString(v["description"]), "Quantity is"):
				return map[string]any{"type": []string{"string", "integer", "number"}}
			case out["properties"] != nil:
				out["additionalProperties"] = false
			}
			delete(out, "format")
			return out
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		}
		return v
	}
	for _, name := range kinds {
		keep(name)
	}
	b, err = json.Marshal(map[string]any{"definitions": kept})
	if err == nil {
		err = os.WriteFile(oldest, append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func toString(v any) string { s, _ := v.(string); return s }

// The renderings have only fields that Kubernetes 1.27 has, the oldest version that the chart says it works with.
func TestOldest(t *testing.T) {
	if *swagger != "" {
		trim(t, *swagger)
	}
	f, err := os.Open(oldest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	document, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	if err := compiler.AddResource("kubernetes.json", document); err != nil {
		t.Fatal(err)
	}
	check := func(text string) error {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			return err
		}
		name, ok := kinds[toString(o["apiVersion"])+" "+toString(o["kind"])]
		if !ok {
			return nil // an operator's, see TestObjects
		}
		s, err := compiler.Compile("kubernetes.json#/definitions/" + name)
		if err != nil {
			return err
		}
		return s.Validate(o)
	}
	seen := map[string]bool{}
	for title, path := range files(t) {
		documents, _ := render(t, "milepost", values(t, path, ""))
		for _, d := range documents {
			if err := check(d); err != nil {
				t.Errorf("%s: %v\n%s", title, err, d)
			}
			for kind := range kinds {
				if _, name, _ := strings.Cut(kind, " "); strings.Contains(d, "\nkind: "+name+"\n") {
					seen[kind] = true
				}
			}
		}
	}
	for kind := range kinds {
		if !seen[kind] {
			t.Errorf("no rendering has a %s", kind)
		}
	}
	// A sleep as a lifecycle hook came with 1.29.
	newer := "{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, lifecycle: {preStop: {sleep: {seconds: 3}}}}]}}"
	if err := check(newer); err == nil || !strings.Contains(err.Error(), "'sleep' not allowed") {
		t.Errorf("what is newer than 1.27: %v", err)
	}
}
