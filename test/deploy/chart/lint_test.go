package chart

import (
	"testing"

	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

// helm lint has nothing to say but that there is no icon.
func TestLint(t *testing.T) {
	for name, path := range files(t) {
		l := lint.All(chartDir, values(t, path, ""), "default", true)
		for _, m := range l.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", name, m)
			}
		}
		if len(l.Messages) > 1 {
			t.Errorf("%s: %v", name, l.Messages)
		}
	}
}
