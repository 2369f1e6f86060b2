package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestReleaseNotes: .ci/notes prints the change log's section of the version that the chart and
// compose have, and refuses every other version. The chart can be packaged.
func TestReleaseNotes(t *testing.T) {
	chart, err := loader.Load(filepath.Join(root, "charts/milepost"))
	stagetest.OK(t, err)
	if path, err := chartutil.Save(chart, t.TempDir()); err != nil || filepath.Base(path) != "milepost-"+chart.Metadata.Version+".tgz" {
		t.Errorf("helm package: %s, %v", path, err)
	}
	notes := output(t, root, ".ci/notes", "v"+chart.Metadata.Version)
	if !strings.Contains(notes, "\n- ") || strings.Contains(notes, "\n## ") || strings.Contains(notes, "Unreleased") {
		t.Errorf("notes of %s: %.300q, want the entries of one section", chart.Metadata.Version, notes)
	}
	refuse := exec.Command(".ci/notes", "v999.0.0")
	refuse.Dir = root
	if out, err := refuse.CombinedOutput(); err == nil || !strings.Contains(string(out), `Chart.yaml does not have "version: 999.0.0"`) {
		t.Errorf("notes of a version that nothing has: %v, %s", err, out)
	}
}

// TestReleaseArchives: what GoReleaser builds is there, with the flags of `make build`, and each
// archive has its program and files that exist. `make release-check` runs GoReleaser itself.
func TestReleaseArchives(t *testing.T) {
	var cfg struct {
		Builds   []struct{ ID, Dir, Main, Ldflags string }
		Archives []struct {
			IDs, Files []string
		}
	}
	text := must(os.ReadFile(filepath.Join(root, ".goreleaser.yaml")))
	stagetest.OK(t, yaml.Unmarshal(text, &cfg))
	flags := regexp.MustCompile(`-ldflags "([^"]+)"`).FindStringSubmatch(output(t, root, "make", "-n", "build", "VERSION={{ .Version }}"))[1]
	var built, packed []string
	for _, b := range cfg.Builds {
		built = append(built, b.ID)
		if b.Ldflags != flags {
			t.Errorf("%s is built with %q, want %q", b.ID, b.Ldflags, flags)
		}
		if _, err := os.Stat(filepath.Join(root, b.Dir, b.Main, "main.go")); err != nil {
			t.Error(err)
		}
	}
	for _, a := range cfg.Archives {
		packed = append(packed, a.IDs...)
		for _, f := range a.Files {
			if _, err := os.Stat(filepath.Join(root, f)); err != nil {
				t.Error(err)
			}
		}
	}
	if want := []string{"milepostctl", "standalone"}; !slices.Equal(built, want) || !slices.Equal(packed, want) {
		t.Errorf("built are %q, in archives are %q; want %q", built, packed, want)
	}
}
