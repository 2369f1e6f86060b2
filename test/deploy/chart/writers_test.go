package chart

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/services/email"
)

// Several writers are the Deployment of the one, which keeps its volume, and a StatefulSet of the
// others, each with a volume of its own. All know how many they are, and who they are.
func TestWriters(t *testing.T) {
	all := rendered(t, "milepost", "{broker: {mode: cluster, external: {host: r}}, components: {email: {writers: 3, replicas: 2, env: {TZ: UTC}}}}")
	first, others := find[*appsv1.Deployment](t, all, "milepost-email"), find[*appsv1.StatefulSet](t, all, "milepost-email-writers")
	one := find[*appsv1.Deployment](t, rendered(t, "milepost", ""), "milepost-email")
	if got, want := first.Spec.Template.Spec.Volumes, one.Spec.Template.Spec.Volumes; fmt.Sprint(got) != fmt.Sprint(want) || *first.Spec.Replicas != 2 {
		t.Errorf("writer 0 has %d pods and the volumes %+v, want 2 and those of the only one: %+v", *first.Spec.Replicas, got, want)
	}
	if *others.Spec.Replicas != 2 || others.Spec.Ordinals.Start != 1 || len(others.Spec.VolumeClaimTemplates) != 1 || others.Spec.VolumeClaimTemplates[0].Name != "data" || len(others.Spec.Template.Spec.Volumes) != 0 {
		t.Errorf("the others are %+v", others.Spec)
	}
	find[*corev1.Service](t, all, others.Spec.ServiceName)
	for template, number := range map[*corev1.PodTemplateSpec]int{&first.Spec.Template: 0, &others.Spec.Template: -1} {
		vars := env(*template)
		var w email.Writers
		if err := config.Load(func(v string) string { return vars[v] }, &w); err != nil || w != (email.Writers{Writers: 3, Writer: number}) || vars["TZ"] != "UTC" {
			t.Errorf("%v, %+v from %v; want number %d of 3", err, w, slices.Sorted(maps.Keys(vars)), number)
		}
		c := template.Spec.Containers[0]
		if c.Image != one.Spec.Template.Spec.Containers[0].Image || c.VolumeMounts[0].Name != "data" || c.WorkingDir != c.VolumeMounts[0].MountPath {
			t.Errorf("number %d runs %s in %s with %+v", number, c.Image, c.WorkingDir, c.VolumeMounts)
		}
	}
}
