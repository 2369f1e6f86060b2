package observe

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// prometheus is what this test looks at of Prometheus' configuration.
type prometheus struct {
	RuleFiles     []string `yaml:"rule_files"`
	ScrapeConfigs []struct {
		JobName string `yaml:"job_name"`
		DNS     []struct {
			Names []string
			Type  string
			Port  int
		} `yaml:"dns_sd_configs"`
		Relabel []struct {
			Source []string `yaml:"source_labels"`
			Target string   `yaml:"target_label"`
		} `yaml:"relabel_configs"`
	} `yaml:"scrape_configs"`
}

// Compose's Prometheus scrapes every service on the admin port that it has, under names that rules and dashboards know.
func TestPrometheusConfig(t *testing.T) {
	b, err := os.ReadFile(files + "observability/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	var c prometheus
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatalf("prometheus.yml: %v", err)
	}
	if len(c.RuleFiles) != 1 || c.RuleFiles[0] != "alerts.yml" {
		t.Errorf("rule_files = %q", c.RuleFiles)
	}
	got := map[string]string{}
	for _, s := range c.ScrapeConfigs {
		if !strings.Contains(s.JobName, "milepost") {
			t.Errorf("job %s: the rules look for jobs with milepost in their names", s.JobName)
		}
		if len(s.Relabel) != 1 || fmt.Sprint(s.Relabel[0]) != "{[__meta_dns_name] container}" {
			t.Errorf("job %s: a service's name does not become the label container: %v", s.JobName, s.Relabel)
		}
		for _, d := range s.DNS {
			if len(d.Names) != 1 || d.Type != "A" {
				t.Errorf("job %s: names %q, type %s", s.JobName, d.Names, d.Type)
			}
			got[d.Names[0]] = fmt.Sprint(d.Port)
		}
	}
	mains, err := filepath.Glob("../../../services/*/cmd/*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for _, path := range mains {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path))
		admin := regexp.MustCompile(`Admin:\s+"127\.0\.0\.1:(\d+)"`).FindSubmatch(source)
		if admin == nil || name == "standalone" { // a tool, and what compose does not run
			continue
		}
		if got[name] != string(admin[1]) {
			t.Errorf("%s is scraped on port %q; its admin port is %s", name, got[name], admin[1])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("these are no programs: %v", got)
	}
}
