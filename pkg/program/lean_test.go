package program

import (
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func TestLean(t *testing.T) {
	for used, want := range map[int]int{0: 400, 4 << 20: 400, 8 << 20: 150, 10 << 20: 100, 14 << 20: 50, 1 << 30: 50} {
		if got := leanGC(400, used); got != want {
			t.Errorf("leanGC(400, %d) = %d; want %d", used, got, want)
		}
	}
	percent := func() uint64 {
		runtime.GC()
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	keepLean(400)
	held := make([]byte, 64<<20)
	stagetest.Eventually(t, "a large heap has GOGC 50", func() bool { return percent() == leanPercent })
	runtime.KeepAlive(held)
	stagetest.Eventually(t, "a small one has more again", func() bool { return percent() > leanPercent })
}
