package stage

import (
	"context"
	"testing"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
)

// What is not traced costs no allocation.
func TestTraceOffCost(t *testing.T) {
	s := &Stage{b: &Broker{}}
	in := []*delivery{
		{Entry: entry.Entry{EventID: "ev-1", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
		{Entry: entry.Entry{EventID: "ev-2"}},
	}
	results := make([]Result, len(in))
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		spans := s.begin(in)
		ctx = spans.in(ctx)
		spans.end(results)
		_ = s.adopted("ev-1")
	}); n != 0 {
		t.Errorf("%v allocations a call without a tracer, want 0", n)
	}
	if in[1].span != "" || in[0].Traceparent == "" {
		t.Errorf("without a tracer the deliveries were changed: %+v, %+v", in[0], in[1])
	}
}
