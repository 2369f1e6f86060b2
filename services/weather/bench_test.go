package weather_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/weather/openmeteo"
)

// BenchmarkAnswer compares answers from the cache with answers from a provider that takes 20 ms.
// Wanted: 20 times as many a second.
func BenchmarkAnswer(b *testing.B) {
	p := openmeteo.Start(b)
	p.Delay(20 * time.Millisecond)
	o := stagetest.Real(b).Options()
	service := replica(b, o, o, p.URL)
	var place atomic.Int64
	for name, path := range map[string]func() string{
		"cached": func() string { return "/api/weather/moskva" },
		"loaded": func() string { // places a degree apart are in cells of their own
			n := place.Add(1)
			return fmt.Sprintf("/api/weather?lat=%d.%02d&long=%d", n%160-80, n/57_600, n/160%360-180)
		},
	} {
		b.Run(name, func(b *testing.B) { service.BenchmarkGet(b, 25, path) }) // 50 requests at a time on two processors
	}
}
