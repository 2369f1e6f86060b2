// Package newservice writes a service that joins the pipeline: a package with a handler, a main and a test, and the lines
// for compose and the chart. No file of another service changes.
package newservice

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
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

// Spec says what to write.
type Spec struct {
	Root string // the repository
	Name string // of the service, its stage and its folder
	From string // the channel it reads
	To   string // the channel it publishes on; "" for none
}

// Mark is the end of the lists of services in the compose file, its Prometheus' targets and the chart's values: new ones go
// above it.
const Mark = "# make new-service writes above this line"

// Lists are the files that have such a list, each with its template.
var Lists = map[string]string{
	"docker-compose.yml":                                 "compose.yaml.tmpl",
	"charts/milepost/values.yaml":                        "values.yaml.tmpl",
	"charts/milepost/files/observability/prometheus.yml": "prometheus.yaml.tmpl",
}

var (
	nameRule    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	channelRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$`)
	application = []string{event.RawInput, event.CalculatedDistance, event.UserEmail, event.EmailSent, event.WeatherReport}
)

// kinds are what travels on the channels, and an example of it.
var kinds = map[string]struct{ typ, sample string }{
	event.RawInput:           {"event.Submission", `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`},
	event.CalculatedDistance: {"event.Result", `{"email":"ada@example.com","distance_from_velocity":5679.94,"lat":"40.7128","long":"-74.0060"}`},
	event.UserEmail:          {"event.Address", `ada@example.com`},
	event.EmailSent: {"event.Sent",
		`{"id":"018f0000-0000-7000-8000-000000000001","email":"ada@example.com","distance_from_velocity":5679.94,"sent_at":"2026-01-02T03:04:05Z"}`},
}

// check refuses what could not work or would change another service.
func (s Spec) check() error {
	switch {
	case !nameRule.MatchString(s.Name) || len(s.Name) > 40 || token.IsKeyword(s.pkg()):
		return fmt.Errorf("NAME: %q is not a name of small letters, digits and dashes that begins with a letter", s.Name)
	case !channelRule.MatchString(s.From):
		return fmt.Errorf("FROM: %q is not a channel, such as %s", s.From, event.RawInput)
	case s.To != "" && !channelRule.MatchString(s.To):
		return fmt.Errorf("TO: %q is not a channel, such as tides", s.To)
	case s.To != "" && (s.To == s.From || slices.Contains(application, s.To)):
		return fmt.Errorf("TO: %s has its publisher already; choose a channel of your own", s.To)
	}
	if _, err := os.Stat(filepath.Join(s.Root, "go.work")); err != nil {
		return fmt.Errorf("%s is not the repository: %w", s.Root, err)
	}
	if _, err := os.Stat(s.folder()); err == nil {
		return fmt.Errorf("NAME: there is a services/%s already", s.Name)
	}
	return nil
}

func (s Spec) folder() string { return filepath.Join(s.Root, "services", s.Name) }

// pkg is the name of the Go package.
func (s Spec) pkg() string { return strings.ReplaceAll(s.Name, "-", "") }

// Write writes the service. It returns the files of [Lists] that it did not change, because they are not there or have no
// [Mark], with the lines that belong into them. After an error nothing is left behind.
func Write(s Spec) (left map[string]string, err error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	port, err := freePort(s.Root)
	if err != nil {
		return nil, err
	}
	kind, known := kinds[s.From]
	if !known {
		kind.typ, kind.sample = "json.RawMessage", `{}`
	}
	data := struct {
		Name, Package, From, To, Type, Sample string
		Port                                  int
		JSON                                  bool // the payload is JSON of an unknown shape
	}{s.Name, s.pkg(), s.From, s.To, kind.typ, kind.sample, port, !known}
	templates, err := template.ParseFS(files, "templates/*.tmpl")
	if err != nil {
		return nil, err
	}
	fill := func(name string) ([]byte, error) {
		var b bytes.Buffer
		err := templates.ExecuteTemplate(&b, name, data)
		return b.Bytes(), err
	}

	content := map[string][]byte{}
	for path, name := range map[string]string{
		s.pkg() + ".go": "service.go.tmpl", s.pkg() + "_test.go": "test.go.tmpl", filepath.Join("cmd", s.Name, "main.go"): "main.go.tmpl",
	} {
		b, err := fill(name)
		if err == nil {
			b, err = format.Source(b)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		content[filepath.Join(s.folder(), path)] = b
	}
	left = map[string]string{}
	for path, name := range Lists {
		lines, err := fill(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		old, err := os.ReadFile(filepath.Join(s.Root, path))
		at := markIn(old)
		if err != nil || at < 0 {
			left[path] = string(lines)
			continue
		}
		content[filepath.Join(s.Root, path)] = slices.Concat(old[:at], lines, old[at:])
	}

	before := map[string][]byte{} // to put back
	for path := range content {
		if b, err := os.ReadFile(path); err == nil {
			before[path] = b
		}
	}
	if err := s.write(content); err != nil {
		err = errors.Join(err, os.RemoveAll(s.folder()))
		for path, b := range before {
			err = errors.Join(err, os.WriteFile(path, b, 0o644))
		}
		return nil, err
	}
	return left, nil
}

func (s Spec) write(content map[string][]byte) error {
	for path, b := range content {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// markIn is where the line with the mark begins, -1 without one.
func markIn(text []byte) int {
	i := bytes.Index(text, []byte(Mark))
	if i < 0 {
		return -1
	}
	return bytes.LastIndexByte(text[:i], '\n') + 1
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
