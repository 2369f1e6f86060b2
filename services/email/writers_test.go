package email

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
)

func TestWriters(t *testing.T) {
	for _, tc := range []struct {
		w    Writers
		host string
		want int
		says string
	}{
		{Writers{}, "laptop", 0, ""},
		{Writers{1, -1}, "milepost-email-5d9f-1", 0, ""},
		{Writers{3, -1}, "milepost-email-2", 2, ""},
		{Writers{3, 0}, "milepost-email-2", 0, ""},
		{Writers{2, -1}, "laptop", 0, `EMAIL_WRITER: it is needed if EMAIL_WRITERS is 2, since the host name "laptop" does not end with a number`},
		{Writers{2, -1}, "milepost-email-2", 0, "EMAIL_WRITER: 2 must be less than EMAIL_WRITERS, 2"},
	} {
		got, err := tc.w.number(tc.host)
		if got != tc.want || (err == nil) != (tc.says == "") || err != nil && err.Error() != tc.says {
			t.Errorf("number of %+v on %s: %d, %v; want %d, %s", tc.w, tc.host, got, err, tc.want, tc.says)
		}
	}
	g := newRig(t, stagetest.Embedded(t))
	err := Run(t.Context(), Deps{Broker: g.broker, Store: g.store, Settings: Settings{SentEmails: filepath.Join(t.TempDir(), "log")},
		Writers: Writers{2, 1}, Log: quiet, Admin: telemetry.NewAdmin()})
	if err == nil || !strings.HasPrefix(err.Error(), "EMAIL_WRITERS: ") || !strings.Contains(err.Error(), "a single Redis has 1") {
		t.Errorf("two writers on a single Redis: %v", err)
	}
}
