package compose

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

const (
	root    = "../../.."
	version = "v0.0.0-test"

	// base is what busybox and the certificates weigh in an image, in bytes.
	base = 2_300_000
)

// maxImage is what an image may weigh unpacked, in bytes; to pull it is two fifths of that. web-api
// uses html/template, with which the linker keeps every exported method: 8 MB. standalone has a
// document database in it.
func maxImage(name string) int64 {
	switch name {
	case "standalone":
		return 50_000_000
	case "web-api":
		return 28_500_000
	}
	return 22_000_000
}

// noService are the programs that compose does not keep running: one tries everything without it,
// one is a tool.
var noService = []string{"standalone", "milepostctl"}

// built is what the Dockerfile builds from what docker build sees: a folder with every program.
// Only the places are others. It is built once, where images are for: on Linux. The folder is the
// same in each run.
var built = sync.OnceValues(func() (dir string, err error) {
	if dir, err = filepath.Abs(filepath.Join(root, "bin/test/images")); err != nil {
		return "", err
	}
	src := filepath.Join(dir, "src")
	if err := errors.Join(os.RemoveAll(src), copyContext(src)); err != nil {
		return dir, err
	}
	dockerfile, err := os.ReadFile(filepath.Join(root, "deploy/Dockerfile"))
	if err != nil {
		return dir, err
	}
	run := regexp.MustCompile(`(?m)^RUN (?:--mount=\S+\s+)*(.*go build.*)$`).FindAllStringSubmatch(strings.ReplaceAll(string(dockerfile), "\\\n", " "), -1)
	if len(run) != 1 {
		return dir, fmt.Errorf("the Dockerfile has %d RUN lines with go build, want 1", len(run))
	}
	var errs []error
	for _, name := range programs() {
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(run[0][1], "/out/", dir+"/"))
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "SERVICE="+name, "VERSION="+version, "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH)
		if out, err := cmd.CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("build %s: %w\n%s", name, err, out))
		}
	}
	return dir, errors.Join(errs...)
})

func build(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("images hold Linux programs")
	}
	dir, err := built()
	stagetest.OK(t, err)
	return dir
}

// programs are the names of all programs that can be an image.
func programs() (names []string) {
	mains, _ := filepath.Glob(filepath.Join(root, "services", "*", "cmd", "*")) // the pattern is right
	for _, dir := range mains {
		names = append(names, filepath.Base(dir))
	}
	return names
}

// copyContext copies the files of the repository that .dockerignore leaves.
func copyContext(to string) error {
	text, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return err
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return err
	}
	return fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		skip, err := ignored.MatchesOrParentMatches(path)
		switch {
		case err != nil:
			return err
		case skip && d.IsDir():
			return fs.SkipDir // no pattern brings back what is within
		case skip:
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, path), 0o755)
		}
		b, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), b, 0o644)
	})
}

// Only source gets into the builder, and so into its cache: no documents, logs or secrets of the
// checkout.
func TestBuildContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stagetest.OK(t, copyContext(dir))
	source := regexp.MustCompile(`^(pkg|services)(/|$)`)
	never := regexp.MustCompile(`_test\.go$|\.md$|(^|/)(\.env|sent_emails|testdata)`)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if path != "." && (!source.MatchString(path) || never.MatchString(path)) {
			t.Errorf("docker build sees %s", path)
		}
		return err
	})
	stagetest.OK(t, err)
}

// output is what a program of an image, or make, writes.
func output(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=") // the make that runs the tests is another one
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return string(out)
}

// help is what a program says of itself.
func help(t testing.TB, name string) string {
	t.Helper()
	return output(t, "", filepath.Join(build(t), name), "--help")
}

// Each image's program is static, stamped, small, and built with the flags of `make build`.
func TestImages(t *testing.T) {
	t.Parallel()
	dir := build(t)
	// With -trimpath a program does not say its -ldflags.
	flags := regexp.MustCompile(`-ldflags "[^"]+"`).FindString(output(t, root, "make", "-n", "build", "VERSION=$$VERSION"))
	if dockerfile := string(must(os.ReadFile(filepath.Join(root, "deploy/Dockerfile")))); flags == "" || !strings.Contains(dockerfile, flags) {
		t.Errorf("the Dockerfile does not build with %s", flags)
	}
	for _, name := range programs() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			f, err := elf.Open(path)
			stagetest.OK(t, err)
			defer f.Close()
			if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
				t.Error("it is not static")
			}
			info, err := buildinfo.ReadFile(path)
			stagetest.OK(t, err)
			for key, want := range map[string]string{"CGO_ENABLED": "0", "GOARCH": runtime.GOARCH} {
				if i := slices.Index(info.Settings, debug.BuildSetting{Key: key, Value: want}); i < 0 {
					t.Errorf("it is not built with %s=%s: %v", key, want, info.Settings)
				}
			}
			size, err := os.Stat(path)
			stagetest.OK(t, err)
			if got, most := size.Size()+base, maxImage(name); got > most {
				t.Errorf("the image has %d bytes, want at most %d", got, most)
			}
			if name == "milepostctl" {
				return // a tool, which is nothing's health check
			}
			if !strings.Contains(help(t, name), name+" healthcheck ") {
				t.Error("there is no subcommand healthcheck")
			}
			if out := output(t, "", path, "--version"); !strings.HasPrefix(out, name+" "+version+" ") {
				t.Errorf("--version says %q, want the version %s", out, version)
			}
		})
	}
}
