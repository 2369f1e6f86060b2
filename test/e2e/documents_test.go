//go:build unix

package e2e

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// block is a block of shell commands in a document.
type block struct {
	file   string
	kind   string // "test" or "not tested", as its comment says
	mark   string // the test that runs it, or the reason why none does
	sh     string
	output string // what the document shows below; "" if nothing
}

var blockOf = regexp.MustCompile("(?ms)(?:^<!-- (test|not tested): ([^\n]+) -->\n)?^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?")

// documents reads the tree's documents except CHANGELOG.md, which speaks of the past.
func documents(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	walk(t, func(path string) {
		if filepath.Ext(path) == ".md" && path != "CHANGELOG.md" {
			found[path] = read(t, path)
		}
	})
	return found
}

// walk calls visit with the path of each file of the repository, relative to its root.
func walk(t testing.TB, visit func(path string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "data", "dist"}, path):
			return fs.SkipDir
		case !d.IsDir():
			visit(path)
		}
		return nil
	})
	stagetest.OK(t, err)
}

// read returns the text of a file of the repository.
func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	stagetest.OK(t, err)
	return string(b)
}

// blocks finds the blocks of all documents, by file and then in their order.
func blocks(t testing.TB) (all []block) {
	t.Helper()
	docs := documents(t)
	for _, file := range slices.Sorted(maps.Keys(docs)) {
		for _, m := range blockOf.FindAllStringSubmatch(docs[file], -1) {
			all = append(all, block{file, m[1], m[2], m[3], m[4]})
		}
	}
	return all
}

// commands finds the blocks that are marked with the running test's name. There must be n.
func commands(t *testing.T, n int) []block {
	t.Helper()
	found := slices.DeleteFunc(blocks(t), func(b block) bool { return b.kind != "test" || b.mark != t.Name() })
	if len(found) != n {
		t.Fatalf("the documents have %d blocks marked `<!-- test: %s -->`, want %d: %+v", len(found), t.Name(), n, found)
	}
	return found
}

// try runs the commands of a block one after the other and compares their output with the
// document's. A command that begins with tail is repeated until it shows the document's last lines,
// because a reader takes a moment.
func (b block) try(t *testing.T, run func(command string) (output string, code int)) (output string) {
	t.Helper()
	want := same(b.output)
	for command := range strings.Lines(strings.ReplaceAll(b.sh, "\\\n", "")) {
		said, code := run(command)
		if strings.HasPrefix(command, "tail ") {
			stagetest.Eventually(t, command+" shows what "+b.file+" shows", func() bool {
				said, code = run(command)
				return said != "" && code == 0 && strings.HasPrefix(want, same(output+said))
			})
		}
		if code != 0 {
			t.Fatalf("%s of %s: exit status %d\n%s", command, b.file, code, said)
		}
		output += said
	}
	if got := same(output); b.output != "" && got != want {
		t.Errorf("the commands\n%sof %s print\n%s\nwhich is not what it shows:\n%s", b.sh, b.file, got, want)
	}
	return output
}

// anyEvent and anyEntry match what is different in each run.
var (
	anyEvent = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	anyEntry = regexp.MustCompile(`\b\d{13}-\d+\b`)
)

var differing = []struct {
	what *regexp.Regexp
	with string
}{
	{anyEvent, "EVENT"},
	{regexp.MustCompile(`journal-[0-9a-f-]{36}`), "JOURNAL"},
	{anyEntry, "ENTRY"},
	{regexp.MustCompile(`"[A-Za-z0-9.-]+-\d+-[0-9a-f]{8}"`), `"CONSUMER"`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z| [+-]\d{4})?`), "TIME"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d,\d{3}`), "TIME"},
	{regexp.MustCompile(`\b(\d+m)?\d+s\b`), "AGE"},
	{regexp.MustCompile(`"(entries|added|settled)": \d+`), `"$1": N`}, // settled entries are trimmed at any moment
	{regexp.MustCompile(`((?m:^tries)|"tries":|set aside +AGE|required +0 +0 +-)( +)[1-9]\d*`), "$1${2}N"},
	{regexp.MustCompile(`"rate": (null|[0-9.e+-]+)`), `"rate": N`},
	{regexp.MustCompile(`redis://127\.0\.0\.1:\d+`), "REDIS"},
	{regexp.MustCompile(`  +`), "  "},
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
}

// same removes from an output what differs from run to run, and the width of its columns.
func same(s string) string {
	for _, d := range differing {
		s = d.what.ReplaceAllString(s, d.with)
	}
	return strings.TrimSpace(s) + "\n"
}

var (
	testOf  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	namedIn = regexp.MustCompile(`\bTest[A-Z]\w+`)
	goTest  = regexp.MustCompile(`(?:go|\$\(GO\)) test ([^` + "`" + `\n;|]*)`)
)

// TestDocuments checks that each block of shell commands names the test that runs it, or says why
// none does, and that the tests which documents and the Makefile name are there.
func TestDocuments(t *testing.T) {
	t.Parallel()
	tests, all := map[string][]string{}, []string{} // names, by folder and all
	walk(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range testOf.FindAllStringSubmatch(read(t, path), -1) {
				tests[filepath.Dir(path)] = append(tests[filepath.Dir(path)], m[1])
				all = append(all, m[1])
			}
		}
	})
	for _, b := range blocks(t) {
		if b.kind == "" {
			t.Errorf("%s: put `<!-- test: TestName -->` or `<!-- not tested: reason -->` above the block\n%s", b.file, b.sh)
		}
		if b.kind == "test" && !slices.Contains(tests["test/e2e"], b.mark) {
			t.Errorf("%s: test/e2e has no test %q to run the block\n%s", b.file, b.mark, b.sh)
		}
	}
	texts := documents(t)
	texts["Makefile"] = strings.NewReplacer("\\\n", "", "$$", "$").Replace(read(t, "Makefile"))
	for file, text := range texts {
		for _, name := range namedIn.FindAllString(text, -1) {
			if !slices.ContainsFunc(all, func(test string) bool { return strings.HasPrefix(test, name) }) {
				t.Errorf("%s names %s, and there is no such test", file, name)
			}
		}
		for _, m := range goTest.FindAllStringSubmatch(text, -1) {
			words := strings.Fields(m[1])
			i := slices.Index(words, "-run") + 1
			if i == 0 || words[i] == "'^$'" { // benchmarks alone
				continue
			}
			run, err := regexp.Compile(strings.Trim(words[i], "'"))
			if err != nil {
				t.Errorf("%s: go test %s: %v", file, m[1], err)
				continue
			}
			for _, path := range words {
				if folder, ok := strings.CutPrefix(path, "./"); ok && !slices.ContainsFunc(tests[folder], run.MatchString) {
					t.Errorf("%s: go test %s: no test of %s matches", file, m[1], path)
				}
			}
		}
	}
}

// terminal runs the commands of a document in a clean copy of the repository.
type terminal struct {
	t     *testing.T
	dir   string
	env   []string
	ports *strings.Replacer // the ports in documents may be taken here

	exported string // the export lines so far: each command has a shell of its own
}

// newTerminal copies the repository's files, committed or not, without what was built or run in it.
// Replace lists what of the commands is replaced, and by what.
func newTerminal(t *testing.T, env []string, replace ...string) *terminal {
	t.Helper()
	stagetest.Real(t) // for redis-cli: it comes with the server
	dir := t.TempDir()
	const copied = `tar -C "$0" --exclude ./bin -cf - . | tar -C "$1" -xf - && cd "$1" && git clean -ffdXq`
	out, err := exec.Command("sh", "-ec", copied, root, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("copy the repository: %v\n%s", err, out)
	}
	env = append(append(os.Environ(), "TZ=UTC", "ADMIN_LISTEN=127.0.0.1:0", "WEATHER_PROVIDER_URL=off"), env...)
	return &terminal{t: t, dir: dir, env: env, ports: strings.NewReplacer(replace...)}
}

// start starts commands in the background. Signals go to all processes that they start.
func (c *terminal) start(commands string) *process.Process {
	c.t.Helper()
	commands = c.ports.Replace(commands)
	p := process.New(c.t, commands, "/bin/sh", "-ec", commands)
	p.Dir, p.Env, p.Group = c.dir, c.env, true
	c.t.Logf("$ %s", commands)
	p.Start()
	return p
}

// run runs a command to its end.
func (c *terminal) run(command string) (output string, code int) {
	c.t.Helper()
	if strings.HasPrefix(command, "export ") {
		c.exported += c.ports.Replace(command)
		return "", 0
	}
	return process.Run(c.t, c.dir, c.env, "/bin/sh", "-ec", c.exported+c.ports.Replace(command))
}

// logged counts the lines of sent_emails.
func (c *terminal) logged() int {
	b, err := os.ReadFile(filepath.Join(c.dir, "sent_emails"))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}
