package email

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func TestRun(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		g := newRig(t, o)
		a, stop := g.start()
		waitReady(t, a, true, "email: ok")
		g.publish(0, 300)
		g.wantLines(0, 300)
		if dead := g.settled(); len(dead) != 0 {
			t.Errorf("dead letters %+v, want none", dead)
		}
		g.wantNews(300)

		// A bare address from another program gets its newest distance. Text that is no
		// address and events that are too old become dead letters.
		g.store.put("other program", address(7), 1234.5)
		for _, s := range []string{string(address(7)), "no address", "a@b.c\x1b[2J"} {
			stagetest.OK(t, g.rdb.Publish(t.Context(), event.UserEmail, s).Err())
		}
		stagetest.Eventually(t, "the bare address has its line", func() bool { return g.lines()[lineOf(address(7), "1234.5")] == 1 })
		g.submit(stage.Submission{Body: address(8), At: time.Now().Add(-31 * 24 * time.Hour)})
		stagetest.Eventually(t, "three dead letters", func() bool { return len(g.settled()) == 3 })
		for _, d := range g.settled() {
			if d.Error == "" || d.Group != "email" {
				t.Errorf("dead letter %+v, want the group and a reason", d)
			}
		}
		stop()

		// The same events again, as after a lost settle: they are known, so there are no
		// lines, but the same news.
		_, stop = g.start()
		defer stop()
		before := g.lines()
		g.publish(0, 50)
		stagetest.Eventually(t, "news again", func() bool { return g.news()[numbered(49)] == 2 })
		g.settled()
		if after := g.lines(); len(after) != len(before) || after[lineOf(address(3), "3.0")] != 1 {
			t.Errorf("%d different lines after the second delivery, want %d and each once", len(after), len(before))
		}
	})
}
