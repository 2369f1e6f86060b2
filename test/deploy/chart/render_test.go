package chart

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pmezard/go-difflib/difflib"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

const (
	// A link to charts/milepost: go test runs again after a change of files that it opened by a
	// path within the module, and takes what it has seen before for others.
	chartDir = "testdata/chart"
	minikube = "../../../deploy/minikube/values.yaml"
)

var update = flag.Bool("update", false, "write the golden files, and the chart's README, anew")

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatalf("load the chart: %v", err)
	}
	return c
}

// values are those of a file, over which lines of YAML go.
func values(t *testing.T, path, over string) map[string]any {
	t.Helper()
	v, err := chartutil.ReadValues([]byte(over))
	if err != nil {
		t.Fatalf("values %s: %v", over, err)
	}
	if path == "" {
		return v
	}
	file, err := chartutil.ReadValuesFile(path)
	stagetest.OK(t, err)
	return chartutil.CoalesceTables(v, file)
}

// sets are the values that are rendered, by the name of their golden file: files, and those of
// testdata/sets.yaml.
func sets(t *testing.T) map[string]map[string]any {
	t.Helper()
	paths := must(filepath.Glob(filepath.Join(chartDir, "ci", "*-values.yaml")))
	all := map[string]map[string]any{"default": nil, "minikube": values(t, minikube, "")}
	for _, path := range paths {
		all[strings.TrimSuffix(filepath.Base(path), "-values.yaml")] = values(t, path, "")
	}
	for name, set := range values(t, "testdata/sets.yaml", "") {
		all[name] = set.(map[string]any)
	}
	if len(all) < 30 {
		t.Fatalf("%d sets of values, want 30", len(all))
	}
	return all
}

// render is what `helm template RELEASE charts/milepost` renders with the values: documents, in the
// order of their files, and the notes. No cluster is there to be looked into.
func render(t *testing.T, release string, v map[string]any) (documents []string, notes string) {
	t.Helper()
	key := release + string(must(json.Marshal(v)))
	r, ok := renderings[key]
	if !ok {
		var err error
		if r.documents, r.notes, err = tryRender(load(t), release, v); err != nil {
			t.Fatalf("helm template: %v", err)
		}
		renderings[key] = r
	}
	return slices.Clone(r.documents), r.notes
}

// renderings are kept, since many tests look at the same ones.
var renderings = map[string]struct {
	documents []string
	notes     string
}{}

func tryRender(c *chart.Chart, release string, v map[string]any) (documents []string, notes string, err error) {
	return renderWith(engine.Engine{Strict: true}, c, release, v)
}

// renderWith renders as Helm does; a strict engine refuses values that are nowhere.
func renderWith(e engine.Engine, c *chart.Chart, release string, v map[string]any) (documents []string, notes string, err error) {
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = chartutil.KubeVersion{Version: "v1.27.16", Major: "1", Minor: "27"}
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: release, Namespace: "default", Revision: 1, IsInstall: true}, caps)
	if err != nil {
		return nil, "", err
	}
	rendered, err := e.Render(c, all)
	if err != nil {
		return nil, "", err
	}
	for _, path := range slices.Sorted(maps.Keys(rendered)) {
		switch {
		case strings.HasSuffix(path, "NOTES.txt"):
			notes = rendered[path]
		case !strings.HasPrefix(filepath.Base(path), "_"):
			for _, d := range regexp.MustCompile(`(?m)^---$`).Split(rendered[path], -1) {
				if strings.TrimSpace(d) != "" {
					documents = append(documents, strings.TrimSpace(d)+"\n")
				}
			}
		}
	}
	return documents, notes, nil
}

var (
	generated = regexp.MustCompile(`password: "[A-Za-z0-9+/=]{44}"`)
	checksum  = regexp.MustCompile(`checksum/config: [0-9a-f]{64}`)
	fileKey   = regexp.MustCompile(`(?m)^  ([^ :]+): \|`)
)

// plain is a document without what is random, and without the contents of the chart's files, which
// others write; [TestFiles] looks at those.
func plain(document string) string {
	document = generated.ReplaceAllString(document, "password: <generated>")
	document = checksum.ReplaceAllString(document, "checksum/config: <of the files>")
	if head, rest, ok := strings.Cut(document, "\ndata:\n"); ok && strings.Contains(head, "kind: ConfigMap") {
		var keys []string
		for _, m := range fileKey.FindAllStringSubmatch(rest, -1) {
			keys = append(keys, m[1])
		}
		return head + "\ndata: <" + strings.Join(keys, ", ") + ">\n"
	}
	if head, _, ok := strings.Cut(document, "\nspec:\n"); ok && strings.Contains(head, "kind: PrometheusRule") {
		return head + "\nspec: <alerts.yml>\n"
	}
	return document
}

// golden is what the values render; without values whole, else what differs from that.
func golden(t *testing.T, v map[string]any) string {
	t.Helper()
	documents, notes := render(t, "milepost", v)
	title := regexp.MustCompile(`(?m)^(?:kind|  name): (.*)$`)
	was := map[string]string{}
	if v != nil {
		byDefault, _ := render(t, "milepost", nil)
		for _, d := range byDefault {
			was[fmt.Sprint(title.FindAllString(d, 2))] = plain(d)
		}
	}
	var all []string
	for _, d := range documents {
		id := fmt.Sprint(title.FindAllString(d, 2))
		d = plain(d)
		if old, ok := was[id]; ok {
			delete(was, id)
			if d == old {
				continue
			}
			d = "# changed " + id + "\n" + must(difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: difflib.SplitLines(old), B: difflib.SplitLines(d), Context: 1}))
		}
		all = append(all, d)
	}
	for _, id := range slices.Sorted(maps.Keys(was)) {
		all = append(all, "# without "+id+"\n")
	}
	all = append(all, "# NOTES\n"+regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimSpace(notes), "# ")+"\n")
	return strings.Join(all, "---\n")
}

// The renderings are as they were. A change of templates or values shows here what it changes in a
// cluster: go test ./test/deploy/chart -update, and read the diff.
func TestGolden(t *testing.T) {
	for name, v := range sets(t) {
		t.Run(name, func(t *testing.T) {
			got, path := golden(t, v), filepath.Join("testdata", "golden", name+".yaml")
			if *update {
				stagetest.OK(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			stagetest.OK(t, err)
			if string(want) != got {
				t.Errorf("%s: %s\nIf that is what was meant: go test ./test/deploy/chart -update", path, firstDifference(string(want), got))
			}
		})
	}
	for _, path := range must(filepath.Glob("testdata/golden/*.yaml")) {
		if _, ok := sets(t)[strings.TrimSuffix(filepath.Base(path), ".yaml")]; !ok {
			t.Errorf("%s is of no set of values", path)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := "(end)", "(end)"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", i+1, a, b)
		}
	}
	return "no difference"
}
