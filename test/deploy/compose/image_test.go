package compose

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const (
	root    = "../../.."
	version = "v0.0.0-test"

	// maxImage is what an image may weigh, and base what busybox and the certificates weigh in it, in bytes.
	maxImage, base = 40_000_000, 2_300_000
)

// noService are the programs that compose does not keep running: one tries everything without it, one is a tool.
var noService = []string{"standalone", "milepostctl"}

// programs are the names of all programs that can be an image.
func programs(t testing.TB) (names []string) {
	t.Helper()
	mains, err := filepath.Glob(filepath.Join(root, "services", "*", "cmd", "*"))
	if err != nil || len(mains) == 0 {
		t.Fatalf("no programs found: %v", err)
	}
	for _, dir := range mains {
		names = append(names, filepath.Base(dir))
	}
	return names
}

// buildLine is the shell command of the Dockerfile that builds a program.
func buildLine(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.ReplaceAll(string(text), "\\\n", " ")
	var found []string
	for line := range strings.Lines(lines) {
		if run, ok := strings.CutPrefix(line, "RUN "); ok && strings.Contains(run, "go build") {
			found = append(found, regexp.MustCompile(`--mount=\S+\s+`).ReplaceAllString(run, ""))
		}
	}
	if len(found) != 1 {
		t.Fatalf("the Dockerfile has %d RUN lines with go build, want 1", len(found))
	}
	return found[0]
}

var built struct {
	sync.Once
	dir string
	out map[string]string // what a failed build said, by program
}

// build runs the Dockerfile's build of every program, once, in a copy of what docker build sees, and returns the folder that has
// them. Only the places are others.
func build(t testing.TB) string {
	t.Helper()
	line := buildLine(t)
	built.Do(func() {
		var err error
		if built.dir, err = os.MkdirTemp("", "milepost-images"); err != nil {
			t.Fatal(err)
		}
		built.out = map[string]string{}
		src := filepath.Join(built.dir, "src")
		copyContext(t, src)
		for _, name := range programs(t) {
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "/out/", built.dir+"/"))
			cmd.Dir = src
			cmd.Env = append(os.Environ(), "SERVICE="+name, "VERSION="+version, "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH)
			if out, err := cmd.CombinedOutput(); err != nil {
				built.out[name] = err.Error() + "\n" + string(out)
			}
		}
	})
	for name, out := range built.out {
		t.Errorf("build %s: %s", name, out)
	}
	if len(built.out) > 0 {
		t.FailNow()
	}
	return built.dir
}

// copyContext copies the files of the repository that .dockerignore leaves.
func copyContext(t testing.TB, to string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		skip, err := ignored.MatchesOrParentMatches(rel)
		switch {
		case err != nil:
			return err
		case skip && d.IsDir():
			return fs.SkipDir // no pattern brings back what is within
		case skip:
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is not source stays out of the builder, and so out of its cache: documents, logs and secrets of the checkout.
func TestBuildContext(t *testing.T) {
	dir := t.TempDir()
	copyContext(t, dir)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path) // it is within
		first, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		name := d.Name()
		if err == nil && rel != "." && (first != "pkg" && first != "services" || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, ".env") || strings.HasPrefix(name, "sent_emails")) {
			t.Errorf("docker build sees %s", rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a temporary folder
	}
	os.Exit(code)
}

// help is what a program says of itself; it runs where images are built for, which is Linux.
func help(t testing.TB, name string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("images hold Linux programs")
	}
	out, err := exec.Command(filepath.Join(build(t), name), "--help").Output()
	if err != nil {
		t.Fatalf("%s --help: %v", name, err)
	}
	return string(out)
}

// Each image's program is static, stamped, small, and built as the Makefile builds it.
func TestImages(t *testing.T) {
	dir := build(t)
	flags := makeFlags(t)
	for _, name := range programs(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			f, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			libs, err := f.ImportedLibraries()
			interpreted := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
			if err != nil || len(libs) > 0 || interpreted {
				t.Errorf("not static: libraries %q, interpreter %t, %v", libs, interpreted, err)
			}
			info, err := buildinfo.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			settings := map[string]string{}
			for _, s := range info.Settings {
				settings[s.Key] = s.Value
			}
			if settings["-ldflags"] != flags || settings["CGO_ENABLED"] != "0" || settings["GOARCH"] != runtime.GOARCH {
				t.Errorf("built with -ldflags %q, CGO_ENABLED=%s, GOARCH=%s; want %q, 0, %s",
					settings["-ldflags"], settings["CGO_ENABLED"], settings["GOARCH"], flags, runtime.GOARCH)
			}
			size, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			most := int64(maxImage)
			if name == "standalone" {
				most = 50_000_000 // it has a document database in it
			}
			if size.Size()+base > most {
				t.Errorf("the image has %d bytes, want at most %d", size.Size()+base, most)
			}
			if name == "milepostctl" {
				return // a tool, which is nothing's health check
			}
			if !strings.Contains(help(t, name), name+" healthcheck ") {
				t.Error("there is no subcommand healthcheck")
			}
			out, err := exec.Command(path, "--version").Output()
			if err != nil || !strings.HasPrefix(string(out), name+" "+version+" ") {
				t.Errorf("--version says %q, %v; want the version %s", out, err, version)
			}
		})
	}
}

// makeFlags are the linker's flags of `make build`.
func makeFlags(t testing.TB) string {
	t.Helper()
	cmd := exec.Command("make", "-n", "build", "VERSION="+version)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=") // the make that runs the tests is another one
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make -n build: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`-ldflags "([^"]+)"`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("make build has no -ldflags: %s", out)
	}
	return string(m[1])
}
