package chart

import (
	"strings"
	"testing"

	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// Every pod passes Kubernetes' own checks of the restricted standard, and gets nothing that it does
// not need.
func TestRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	stagetest.OK(t, err)
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for title, v := range sets(t) {
		documents, _ := render(t, "milepost", v)
		for name, p := range pods(objects(t, documents)) {
			if result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &p.ObjectMeta, &p.Spec)); !result.Allowed {
				t.Errorf("%s, %s: %s", title, name, result.ForbiddenDetail())
			}
			if *p.Spec.EnableServiceLinks || *p.Spec.AutomountServiceAccountToken {
				t.Errorf("%s, %s: service links or a token", title, name)
			}
			for _, c := range p.Spec.Containers {
				if !*c.SecurityContext.ReadOnlyRootFilesystem {
					t.Errorf("%s, %s: the root file system can be written to", title, name)
				}
				if c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s, %s: resources %+v", title, name, c.Resources)
				}
				if strings.HasSuffix(c.Image, ":latest") || !strings.Contains(c.Image, ":") {
					t.Errorf("%s, %s: image %s has no version", title, name, c.Image)
				}
				if name != "milepost-test" && name != "milepost-tools" && (c.StartupProbe == nil || c.ReadinessProbe == nil || c.LivenessProbe == nil) {
					t.Errorf("%s, %s: a probe is missing", title, name)
				}
			}
		}
	}
	// The check can fail.
	documents, _ := render(t, "milepost", values(t, "", "securityContext: {allowPrivilegeEscalation: true}"))
	for name, p := range pods(objects(t, documents)) {
		if policy.AggregateCheckResults(evaluator.EvaluatePod(level, &p.ObjectMeta, &p.Spec)).Allowed {
			t.Errorf("%s may gain privileges and was allowed", name)
		}
	}
}
