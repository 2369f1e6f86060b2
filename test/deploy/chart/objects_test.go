package chart

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// decoder knows the kinds of Kubernetes, and refuses fields that a kind does not have.
var decoder = serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()

// operators are the API groups of operators. Their kinds are not decoded further; golden files show
// them.
var operators = regexp.MustCompile(`(?m)^apiVersion: (monitoring\.coreos\.com|keda\.sh|gateway\.networking\.k8s\.io)/`)

// objects decodes documents, strictly.
func objects(t *testing.T, documents []string) []runtime.Object {
	t.Helper()
	var all []runtime.Object
	for _, d := range documents {
		if operators.MatchString(d) {
			u := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(d), &u.Object); err != nil {
				t.Errorf("%v:\n%s", err, d)
			}
			all = append(all, u)
		} else if o, _, err := decoder.Decode([]byte(d), nil, nil); err != nil {
			t.Errorf("%v:\n%s", err, d)
		} else {
			all = append(all, o)
		}
	}
	return all
}

func name(o runtime.Object) string { return must(meta.Accessor(o)).GetName() }

// find returns the object of type T with that name.
func find[T runtime.Object](t *testing.T, all []runtime.Object, called string) T {
	t.Helper()
	for _, o := range all {
		if o, ok := o.(T); ok && name(o) == called {
			return o
		}
	}
	var none T
	t.Fatalf("there is no %T %s", none, called)
	return none
}

// pods are all pod templates, by the name of what makes them.
func pods(all []runtime.Object) map[string]corev1.PodTemplateSpec {
	found := map[string]corev1.PodTemplateSpec{}
	for _, o := range all {
		switch o := o.(type) {
		case *appsv1.Deployment:
			found[o.Name] = o.Spec.Template
		case *appsv1.StatefulSet:
			found[o.Name] = o.Spec.Template
		case *corev1.Pod:
			found[o.Name] = corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
		}
	}
	return found
}

// Every rendering is of Kubernetes' own types, with no field that they do not have, and its parts
// agree with each other.
func TestObjects(t *testing.T) {
	for title, v := range sets(t) {
		t.Run(title, func(t *testing.T) {
			documents, _ := render(t, "milepost", v)
			all := objects(t, documents)
			seen := map[string]bool{}
			for _, o := range all {
				m := must(meta.Accessor(o))
				id := fmt.Sprintf("%T %s", o, m.GetName())
				if seen[id] {
					t.Errorf("%s is there twice", id)
				}
				seen[id] = true
				if m.GetNamespace() != "default" || m.GetLabels()["app.kubernetes.io/instance"] != "milepost" {
					t.Errorf("%s: namespace %q, labels %v", id, m.GetNamespace(), m.GetLabels())
				}
				switch o := o.(type) {
				case *appsv1.StatefulSet:
					find[*corev1.Service](t, all, o.Spec.ServiceName)
				case *corev1.Service:
					var ports []string
					for _, p := range pods(all) {
						if matches(&metav1.LabelSelector{MatchLabels: o.Spec.Selector}, p.Labels) {
							for _, port := range p.Spec.Containers[0].Ports {
								ports = append(ports, port.Name)
							}
						}
					}
					if !slices.Contains(ports, o.Spec.Ports[0].TargetPort.StrVal) {
						t.Errorf("%s: port %s is none of %q", id, o.Spec.Ports[0].TargetPort.StrVal, ports)
					}
				}
			}
			for from, p := range pods(all) {
				if p.Spec.ServiceAccountName != "default" {
					find[*corev1.ServiceAccount](t, all, p.Spec.ServiceAccountName)
				}
				for _, v := range p.Spec.Volumes {
					if v.ConfigMap != nil {
						find[*corev1.ConfigMap](t, all, v.ConfigMap.Name)
					}
					if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName != "kept-log" {
						find[*corev1.PersistentVolumeClaim](t, all, v.PersistentVolumeClaim.ClaimName)
					}
				}
				var before []string
				for _, e := range p.Spec.Containers[0].Env {
					if slices.Contains(before, e.Name) {
						t.Errorf("%s: variable %s is there twice", from, e.Name)
					}
					if _, rest, ok := strings.Cut(e.Value, "$("); ok {
						if variable, _, _ := strings.Cut(rest, ")"); !slices.Contains(before, variable) {
							t.Errorf("%s: %s=%s: %s is not set before it", from, e.Name, e.Value, variable)
						}
					}
					before = append(before, e.Name)
				}
			}
		})
	}
}

func matches(s *metav1.LabelSelector, podLabels map[string]string) bool {
	return must(metav1.LabelSelectorAsSelector(s)).Matches(labels.Set(podLabels))
}
