package milepostctl

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMeasureFanout prints what `make bench` shows of the fan-out. It checks only that everything was answered: how fast
// it is depends on the machine.
func TestMeasureFanout(t *testing.T) {
	if os.Getenv("MEASURE") != "on" {
		t.Skip("measured by make bench")
	}
	at := []int{20, 50, 100, 200}
	f, err := newFan(t.Context(), []float64{0.125, 0.25, 0.375, 0.5}, at)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	rows, err := f.measure(t.Context(), time.Second, at)
	if err != nil {
		t.Fatal(err)
	}
	inTurn := func(n, limit int) {
		how := "one after the other, as the calls"
		if limit == 0 {
			how = "one after the other, the calls at once"
		}
		start := time.Now()
		for range n {
			if err := f.ask(t.Context(), limit); err != nil {
				t.Fatal(err)
			}
		}
		rows = append(rows, fanned{n, how, time.Since(start).Seconds()})
	}
	inTurn(20, 1)
	inTurn(20, 0)
	theirs := map[fanned]string{ // what the documents measured
		{1, "one after the other", 0}:                "1.282 s",
		{1, "at once", 0}:                            "0.518 s",
		{1, "at once, beside 1s of other work", 0}:   "1.003 s",
		{20, "one after the other, as the calls", 0}: "25.4 s",
		{20, "at once", 0}:                           "5.0 s",
		{200, "at once", 0}:                          "2.546 s",
	}
	fmt.Printf("\nfan-out to 0.125, 0.25, 0.375 and 0.5 s\n  %-9s %-42s %9s   %s\n", "requests", "calls", "here", "the documents")
	for _, r := range rows {
		fmt.Printf("  %-9d %-42s %7.3f s   %s\n", r.Requests, r.How, r.Seconds, theirs[fanned{r.Requests, r.How, 0}])
	}
}
