package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// Each value that is not a map of values, or is one only as a whole, has a comment "# -- " that
// says what it is. Those of the services are described in defaults, and need none again.
func TestValues(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	stagetest.OK(t, err)
	var file yaml.Node
	stagetest.OK(t, yaml.Unmarshal(text, &file))
	var walk func(path string, n *yaml.Node)
	walk = func(path string, n *yaml.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			at := path + "." + key.Value
			switch {
			case strings.HasPrefix(key.HeadComment, "# -- "):
			case value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0:
				walk(at, value)
			case !strings.HasPrefix(at, ".components."):
				t.Errorf("values.yaml: %s has no comment", at)
			}
		}
	}
	walk("", file.Content[0])
}

// The way to the first email is six commands at most, and what they and the notes name is there.
func TestMinikube(t *testing.T) {
	b, err := os.ReadFile("../../../deploy/minikube/README.md")
	stagetest.OK(t, err)
	text := string(b)
	_, block, _ := strings.Cut(text, "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	commands := strings.Split(strings.TrimSpace(block), "\n")
	if len(commands) > 6 || !strings.HasPrefix(commands[0], "minikube start --cni=calico") || !strings.HasSuffix(commands[len(commands)-1], " sent_emails") {
		t.Errorf("%d commands, want 6 at most, from minikube start to sent_emails:\n%s", len(commands), block)
	}
	if version := load(t).Metadata.AppVersion; !strings.Contains(block, "VERSION="+version+" ") {
		t.Errorf("the images are not built with the tag that the chart asks for, %s:\n%s", version, block)
	}
	documents, _ := render(t, "milepost", values(t, minikube, ""))
	all := objects(t, documents)
	have := map[string]bool{}
	for _, o := range all {
		have[strings.ToLower(o.GetObjectKind().GroupVersionKind().Kind)+"/"+name(o)] = true
	}
	for _, m := range regexp.MustCompile(`\b(svc|deploy)/([a-z-]+)`).FindAllStringSubmatch(text, -1) {
		kind := map[string]string{"svc": "service", "deploy": "deployment"}[m[1]]
		if m[2] != "minikube" && !have[kind+"/"+m[2]] {
			t.Errorf("%s is not among what is installed", m[0])
		}
	}
	for _, six := range []string{"redis_host", "redis_port", "mongo_host", "mongo_port", "ingress_host", "ingress_class_name"} {
		if !strings.Contains(text, "| `"+six+"` |") {
			t.Errorf("the table lacks %s", six)
		}
	}
	for _, m := range regexp.MustCompile("`((?:broker|mongo|ingress)(?:\\.[a-zA-Z]+)+)").FindAllStringSubmatch(text, -1) {
		var at any = load(t).Values
		for _, key := range strings.Split(m[1], ".") {
			inside, _ := at.(map[string]any)
			v, ok := inside[key]
			if !ok {
				t.Errorf("values.yaml has no %s", m[1])
			}
			at = v
		}
	}
}
