package observe

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// Compose's Prometheus scrapes every service on its admin port, under names that rules and
// dashboards know.
func TestPrometheusConfig(t *testing.T) {
	b, err := os.ReadFile(files + "observability/prometheus.yml")
	stagetest.OK(t, err)
	var c struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			DNS []struct {
				Names []string
				Port  string
			} `yaml:"dns_sd_configs"`
			Relabel []map[string]any `yaml:"relabel_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(b, &c); err != nil || len(c.ScrapeConfigs) != 1 || len(c.RuleFiles) != 1 {
		t.Fatalf("prometheus.yml: %v, %+v", err, c)
	}
	s := c.ScrapeConfigs[0]
	if c.RuleFiles[0] != "alerts.yml" || len(s.Relabel) != 2 || s.Relabel[0]["target_label"] != "container" || s.Relabel[1]["target_label"] != "app" || s.Relabel[1]["replacement"] != "milepost" {
		t.Errorf("want the rules of alerts.yml, the service's name as the label container, and app=milepost: %+v", c)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, d := range s.DNS {
		got[d.Names[0]] = d.Port
	}
	mains, err := filepath.Glob("../../../services/*/cmd/*/main.go")
	stagetest.OK(t, err)
	for _, path := range mains {
		source, err := os.ReadFile(path)
		stagetest.OK(t, err)
		admin := regexp.MustCompile(`Admin:\s+"127\.0\.0\.1:(\d+)"`).FindSubmatch(source)
		if name := filepath.Base(filepath.Dir(path)); admin != nil && name != "standalone" { // a tool has none, and compose does not run standalone
			want[name] = string(admin[1])
		}
	}
	if !maps.Equal(got, want) || len(want) == 0 {
		t.Errorf("Prometheus scrapes %v, want the admin ports %v", got, want)
	}
}
