package chart

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// The README's chapter on values is made from values.yaml: go test ./test/deploy/chart -update.
func TestReadme(t *testing.T) {
	const begin, end = "<!-- made from values.yaml: go test ./test/deploy/chart -update -->\n", "<!-- end -->\n"
	path := filepath.Join(chartDir, "README.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the values, between %q and %q", path, begin, end)
	}
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := describe(text)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(made) {
		if strings.HasSuffix(line, "` |  |\n") {
			t.Errorf("values.yaml says nothing about this one: %s", line)
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(head+begin+made+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if made != old {
		t.Errorf("README.md does not say what values.yaml does: %s\ngo test ./test/deploy/chart -update", firstDifference(old, made))
	}
}

// describe makes a table of each part of values, with the comment above it.
func describe(text []byte) (string, error) {
	var file yaml.Node
	if err := yaml.Unmarshal(text, &file); err != nil {
		return "", err
	}
	var b bytes.Buffer
	var single [][3]string
	root := file.Content[0].Content
	for i := 0; i < len(root); i += 2 {
		key, value := root[i], root[i+1]
		rows := rowsOf("", key, value)
		if len(rows) == 1 {
			single = append(single, rows[0])
			continue
		}
		about := comment(key)
		if key.Value == "components" {
			about += " Their keys are those of `defaults`, and these:"
		}
		fmt.Fprintf(&b, "\n### %s\n\n", key.Value)
		if about != "" {
			fmt.Fprintf(&b, "%s\n\n", strings.TrimSpace(about))
		}
		if key.Value == "components" {
			if err := matrix(&b, value); err != nil {
				return "", err
			}
			rows = described(rows)
		}
		table(&b, rows)
	}
	var out bytes.Buffer
	out.WriteString("\n")
	table(&out, single)
	out.Write(b.Bytes())
	out.WriteString("\n")
	return out.String(), nil
}

// matrix is a table of the components and of what makes them differ.
func matrix(b *bytes.Buffer, components *yaml.Node) error {
	b.WriteString("| | adminPort | port | uses |\n|---|---|---|---|\n")
	for i := 0; i < len(components.Content); i += 2 {
		c := struct {
			AdminPort int `yaml:"adminPort"`
			Port      int
			Uses      []string
		}{Uses: []string{"broker"}}
		if err := components.Content[i+1].Decode(&c); err != nil {
			return err
		}
		port := ""
		if c.Port != 0 {
			port = fmt.Sprint(c.Port)
		}
		fmt.Fprintf(b, "| `%s` | %d | %s | %s |\n", components.Content[i].Value, c.AdminPort, port, strings.Join(c.Uses, ", "))
	}
	b.WriteString("\n")
	return nil
}

// rowsOf are a key's default and description, or those of what is in it.
func rowsOf(prefix string, key, value *yaml.Node) [][3]string {
	name := prefix + key.Value
	inside := value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0 && !strings.HasPrefix(key.HeadComment, "# --")
	if !inside {
		var v any
		if err := value.Decode(&v); err != nil {
			panic(err)
		}
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			panic(err)
		}
		return [][3]string{{name, strings.TrimSpace(text.String()), comment(key)}}
	}
	var rows [][3]string
	for i := 0; i < len(value.Content); i += 2 {
		rows = append(rows, rowsOf(name+".", value.Content[i], value.Content[i+1])...)
	}
	return rows
}

// described are the rows that say something.
func described(rows [][3]string) (kept [][3]string) {
	for _, r := range rows {
		if r[2] != "" {
			kept = append(kept, r)
		}
	}
	return kept
}

func comment(key *yaml.Node) string {
	paragraphs := strings.Split(key.HeadComment, "\n\n") // only what stands right above the key
	var lines []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "#"), " --")))
	}
	return strings.TrimSpace(strings.Join(lines, " "))
}

func table(b *bytes.Buffer, rows [][3]string) {
	b.WriteString("| value | default | |\n|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", r[0], cmp.Or(r[1], " "), strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(r[2]))
	}
}
