//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// TestPromiseChannelsLanguages lets the programs of test/interop stand in for distance and listen,
// in each language that this machine has with its Redis client.
func TestPromiseChannelsLanguages(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]struct {
		find   func(*testing.T) (interpreter, folder string)
		ending string
	}{"python": {python, ".py"}, "node": {node, ".mjs"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			interpreter, folder := l.find(t)
			p := newPipeline(t)
			script := func(name string) *process.Process {
				s := process.New(t, name, interpreter, filepath.Join(folder, name+l.ending))
				s.Env = append(s.Env, "REDIS_URL=redis://"+p.redis.Addr)
				s.Start()
				return s
			}
			script("distance").Says("listening on raw_input")
			listener := script("listen")
			stagetest.Eventually(t, "the listener has subscribed", func() bool {
				return p.must("redis-cli", "-u", "redis://"+p.redis.Addr, "PUBSUB", "NUMSUB", "email:sent") == "email:sent\n1\n"
			})
			p.start("web-api", "db", "email")
			p.submit(golden)
			p.delivered(golden.Email)
			// On a sphere the distance differs from the ellipsoid's by less than half a
			// percent.
			if miles := p.sent().miles[golden.Email]; !strings.HasPrefix(miles, "56") {
				t.Errorf("%s is told %s miles, want about 5,680", golden.Email, miles)
			}
			for _, channel := range []string{"raw_input", "calculated_distance", "user:email", "email:sent"} {
				listener.Says(channel + " ")
			}
		})
	}
}

// python finds a Python that has redis-py.
func python(t *testing.T) (interpreter, folder string) {
	for _, interpreter := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(interpreter, "-c", "import redis").Run() == nil {
			path, err := exec.LookPath(interpreter)
			stagetest.OK(t, err)
			return path, absolute(t, "../interop/python")
		}
	}
	t.Skip("not run: no Python with redis-py (apt-get install python3-redis)")
	return "", ""
}

// node installs node-redis into a copy of the folder.
func node(t *testing.T) (interpreter, folder string) {
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("not run: node is not installed")
	}
	folder = t.TempDir()
	stagetest.OK(t, os.CopyFS(folder, os.DirFS("../interop/node")))
	install := exec.Command("npm", "install", "--no-audit", "--no-fund", "--no-package-lock")
	install.Dir = folder
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("not run: npm cannot install node-redis: %v\n%s", err, out)
	}
	return path, folder
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	stagetest.OK(t, err)
	return abs
}
