package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// channelOf is the channel that the service reads, as its constant In says, and "" without one. It
// refuses what [remove] refuses.
func channelOf(s spec) (string, error) {
	if slices.Contains(builtIn, s.Name) {
		return "", fmt.Errorf("NAME: %s is a part of Milepost and stays", s.Name)
	}
	if err := s.checkName(); err != nil {
		return "", err
	}
	if _, err := os.Stat(s.folder()); err != nil {
		return "", fmt.Errorf("NAME: there is no services/%s", s.Name)
	}
	b, err := os.ReadFile(filepath.Join(s.folder(), s.pkg()+".go"))
	if err != nil {
		return "", nil //nolint:nilerr // somebody renamed the file; the channel is not known then
	}
	if m := regexp.MustCompile(`(?m)^\s*In\s+= "([^"]+)"$`).FindSubmatch(b); m != nil {
		return string(m[1]), nil
	}
	return "", nil
}

// remove deletes the folder of a service, and its lines in the files of [lists], which it returns.
// It refuses services of Milepost itself.
func remove(s spec) (changed []string, err error) {
	if _, err := channelOf(s); err != nil {
		return nil, err
	}
	content := map[string][]byte{}
	for path := range lists {
		old, err := os.ReadFile(filepath.Join(s.Root, path))
		if err != nil {
			continue // the file is not there
		}
		if text := without(string(old), s.Name); text != string(old) {
			content[path] = []byte(text)
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	if err := writeAll(s.Root, content); err != nil {
		return nil, err
	}
	return changed, os.RemoveAll(s.folder())
}

// without is a file of [lists] without a service: its Prometheus target, and the block that begins
// with its name, two columns in, and ends before the next line that is not further in.
func without(text, name string) string {
	var kept strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		if line == fmt.Sprintf("  %s:\n", name) {
			inside = true
			continue
		}
		inside = inside && (strings.TrimSpace(line) == "" || strings.HasPrefix(line, "   "))
		if !inside && !strings.Contains(line, "{ names: ["+name+"],") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
