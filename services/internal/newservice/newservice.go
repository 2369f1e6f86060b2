package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/milepost/milepost/pkg/event"
)

//go:embed templates
var files embed.FS

// spec says which service to write. Errors about it name the variable of make: NAME, FROM or TO.
type spec struct {
	Root string // folder of the repository
	Name string // name of the service, its stage and its folder
	From string // the channel it reads
	To   string // the channel it publishes on; "" for none
}

// written tells what [write] did. Paths are relative to the repository, with slashes.
type written struct {
	files  []string // of the service
	handle string   // the file whose function Handle is to be filled
	port   int      // admin port
}

// mark ends each list of services. New lines go above it.
const mark = "# make new-service writes above this line"

// lists are the files with a list of services, each with its template.
var lists = map[string]string{
	"docker-compose.yml":                                 "compose.yaml.tmpl",
	"charts/milepost/values.yaml":                        "values.yaml.tmpl",
	"charts/milepost/files/observability/prometheus.yml": "prometheus.yaml.tmpl",
}

var (
	nameRule    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	channelRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$`)

	// builtIn are the programs of Milepost itself, and the folders beside them.
	builtIn = []string{"web-api", "distance", "db", "email", "weather", "users", "standalone", "milepostctl", "internal"}
	// taken are names that Go, compose or the chart give another meaning.
	taken = []string{"main", "vendor", "testdata", "context", "config", "program", "json", "stage", "stagetest", "event",
		"telemetry", "broker", "cache", "mongo", "internet", "test", "pods", "services", "alerts", "dashboards",
		"prometheus", "grafana", "jaeger"}
)

// checkName refuses what cannot be the name of a service.
func (s spec) checkName() error {
	switch {
	case s.Name == "":
		return errors.New("NAME is missing, such as NAME=tide")
	case !nameRule.MatchString(s.Name) || len(s.Name) > 40:
		return fmt.Errorf("NAME: %q is not small letters, digits and dashes, beginning with a letter, 40 at most", s.Name)
	case token.IsKeyword(s.pkg()) || slices.Contains(taken, s.pkg()):
		return fmt.Errorf("NAME: %q has another meaning in Go, compose or the chart; choose another name", s.Name)
	}
	if _, err := os.Stat(filepath.Join(s.Root, "go.work")); err != nil {
		return fmt.Errorf("%s is not the repository: %w", s.Root, err)
	}
	return nil
}

// check refuses what could not work or would change another service.
func (s spec) check() error {
	if err := s.checkName(); err != nil {
		return err
	}
	if _, err := os.Stat(s.folder()); err == nil {
		return fmt.Errorf("NAME: there is a services/%s already", s.Name)
	}
	switch publisher := channels[s.To].publisher; {
	case s.From == "":
		return fmt.Errorf("FROM is missing: the channel to read, such as FROM=%s", event.RawInput)
	case !channelRule.MatchString(s.From):
		return fmt.Errorf("FROM: %q is not a channel, such as %s", s.From, event.RawInput)
	case s.To != "" && !channelRule.MatchString(s.To):
		return fmt.Errorf("TO: %q is not a channel, such as tides", s.To)
	case s.To == s.From:
		return fmt.Errorf("TO: %s is also FROM; the service would read its own output, without end", s.To)
	case publisher != "":
		return fmt.Errorf("TO: %s belongs to %s; choose a channel of your own", s.To, publisher)
	}
	return nil
}

func (s spec) folder() string { return filepath.Join(s.Root, "services", s.Name) }

func (s spec) pkg() string { return strings.ReplaceAll(s.Name, "-", "") }

type fields struct {
	spec
	payload
	Package string
	Port    int
}

// write writes the service, and its lines into the files of [lists]. It refuses to if one of these
// has no [mark].
func write(s spec) (written, error) {
	if err := s.check(); err != nil {
		return written{}, err
	}
	port, err := freePort(s.Root)
	if err != nil {
		return written{}, err
	}
	f := fields{spec: s, payload: payloadOf(s.From), Package: s.pkg(), Port: port}
	folder := "services/" + s.Name + "/"
	w := written{handle: folder + s.pkg() + ".go", port: port}
	content := map[string][]byte{}
	for path, name := range map[string]string{
		w.handle: "service.go.tmpl", folder + s.pkg() + "_test.go": "test.go.tmpl", folder + "cmd/" + s.Name + "/main.go": "main.go.tmpl",
	} {
		b, err := f.fill(name)
		if err == nil {
			b, err = format.Source(b)
		}
		if err != nil {
			return written{}, fmt.Errorf("%s: %w", name, err)
		}
		content[path] = b
		w.files = append(w.files, path)
	}
	for path, name := range lists {
		lines, err := f.fill(name)
		if err != nil {
			return written{}, fmt.Errorf("%s: %w", name, err)
		}
		old, err := os.ReadFile(filepath.Join(s.Root, path))
		if err != nil {
			return written{}, err
		}
		at := bytes.LastIndexByte(old[:max(0, bytes.Index(old, []byte(mark)))], '\n') + 1
		if at == 0 {
			return written{}, fmt.Errorf("%s has no line %q", path, mark)
		}
		content[path] = slices.Concat(old[:at], lines, old[at:])
	}
	slices.Sort(w.files)
	return w, writeAll(s.Root, content)
}

func (f fields) fill(name string) ([]byte, error) {
	t, err := template.ParseFS(files, "templates/"+name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, f)
	return b.Bytes(), err
}

func writeAll(root string, content map[string][]byte) error {
	for _, path := range slices.Sorted(maps.Keys(content)) {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, content[path], 0o644); err != nil {
			return err
		}
	}
	return nil
}

var adminPort = regexp.MustCompile(`Admin:\s*"127\.0\.0\.1:(\d+)"`)

// freePort is the first port after 9105 that is no service's admin port.
func freePort(root string) (int, error) {
	mains, err := filepath.Glob(filepath.Join(root, "services", "*", "cmd", "*", "main.go"))
	if err != nil {
		return 0, err
	}
	var taken []int
	for _, path := range mains {
		b, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		for _, m := range adminPort.FindAllSubmatch(b, -1) {
			n, _ := strconv.Atoi(string(m[1])) // digits
			taken = append(taken, n)
		}
	}
	port := 9106
	for slices.Contains(taken, port) {
		port++
	}
	return port, nil
}
