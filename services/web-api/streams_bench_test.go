package webapi

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// BenchmarkStreams opens 1,000 progress streams on one web-api process, each of an event of its
// own, and reports the process' memory and how long a step takes to all of them. It fails over 45
// MB, and unless one subscription connection serves them all.
func BenchmarkStreams(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("reads /proc")
	}
	const streams = 1000
	server := stagetest.Real(b)
	client := server.Client()
	base, process := startProgram(b, server.Addr)
	var ids []string
	for range streams {
		id, _ := accept(b, base, tracked)
		ids = append(ids, id)
	}
	readers := make([]*reader, streams)
	for i, id := range ids {
		readers[i] = openStream(b, base+"/events?ids="+id)
		readers[i].until(id, Name)
	}
	list, err := client.Do(context.Background(), "CLIENT", "LIST", "TYPE", "PUBSUB").Text()
	stagetest.OK(b, err)
	if n := strings.Count(list, "id="); n != 1 {
		b.Errorf("%d subscription connections for %d streams; want one", n, streams)
	}
	for i := 0; b.Loop(); i++ {
		name := "stage-" + strconv.Itoa(i)
		start := time.Now()
		pipe := client.Pipeline()
		for _, id := range ids {
			pipe.Publish(context.Background(), "progress:", fmt.Sprintf("%s %s d%d  ", id, name, time.Now().UnixMilli()))
		}
		if _, err := pipe.Exec(context.Background()); err != nil {
			b.Fatal(err)
		}
		for i, r := range readers {
			r.until(ids[i], name)
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms/step-to-all")
	}
	kB := resident(b, process)
	b.ReportMetric(float64(kB)/1000, "MB-resident")
	if kB > 45_000 {
		b.Errorf("%d kB resident with %d streams open; want at most 45,000", kB, streams)
	}
}

// startProgram builds and runs web-api, and waits until it serves the page.
func startProgram(b *testing.B, redis string) (base string, process *os.Process) {
	b.Helper()
	program := filepath.Join(b.TempDir(), "web-api")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/web-api").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(b))
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "REDIS_URL=redis://"+redis, "LISTEN="+addr, "ADMIN_LISTEN=127.0.0.1:0", "RATE_LIMIT=off", "ADDRESS_LIMIT=off", "STREAM_LIMIT=off")
	cmd.Stderr = os.Stderr
	stagetest.OK(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	stagetest.Eventually(b, "the page is there", func() bool {
		resp, err := http.Get("http://" + addr + "/")
		return err == nil && resp.Body.Close() == nil
	})
	return "http://" + addr, cmd.Process
}

// resident returns the memory of a process in kB.
func resident(b *testing.B, p *os.Process) int {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	stagetest.OK(b, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kB, err := strconv.Atoi(strings.Fields(rest)[0])
	stagetest.OK(b, err)
	return kB
}
