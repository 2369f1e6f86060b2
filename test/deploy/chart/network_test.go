package chart

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// end is a pod as policies see it, in the namespace default unless it is elsewhere.
type end struct {
	labels    map[string]string
	elsewhere bool
}

// allowed tells whether the policies let from connect to to on the port, as Kubernetes defines
// them: a side that no policy selects is open, and of one that is selected, some rule must allow
// the other side.
func allowed(policies []*networkingv1.NetworkPolicy, from, to end, port int) bool {
	out, in := true, true
	for _, p := range policies {
		if !from.elsewhere && matches(&p.Spec.PodSelector, from.labels) {
			out = false
		}
		if !to.elsewhere && matches(&p.Spec.PodSelector, to.labels) {
			in = false
		}
	}
	for _, p := range policies {
		if !from.elsewhere && matches(&p.Spec.PodSelector, from.labels) {
			for _, r := range p.Spec.Egress {
				out = out || onPort(r.Ports, port) && isPeer(r.To, to)
			}
		}
		if !to.elsewhere && matches(&p.Spec.PodSelector, to.labels) {
			for _, r := range p.Spec.Ingress {
				in = in || onPort(r.Ports, port) && isPeer(r.From, from)
			}
		}
	}
	return out && in
}

func policiesOf(all []runtime.Object) (policies []*networkingv1.NetworkPolicy) {
	for _, o := range all {
		if p, ok := o.(*networkingv1.NetworkPolicy); ok {
			policies = append(policies, p)
		}
	}
	return policies
}

func onPort(ports []networkingv1.NetworkPolicyPort, port int) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		return (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP) && *p.Port == intstr.FromInt(port)
	})
}

func isPeer(peers []networkingv1.NetworkPolicyPeer, e end) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		namespace := !e.elsewhere
		if p.NamespaceSelector != nil {
			namespace = len(p.NamespaceSelector.MatchLabels) == 0 // no labels of namespaces are known here
		}
		return p.IPBlock == nil && namespace && (p.PodSelector == nil || matches(p.PodSelector, e.labels))
	})
}

// Who may connect to whom, over which port: all pairs of pods of two releases, a stranger beside
// them and Prometheus.
func TestNetworkPolicies(t *testing.T) {
	documents, _ := render(t, "milepost", values(t, "", "broker: {extraIngress: [{from: [{podSelector: {matchLabels: {app: guest}}}], ports: [{port: 6379}]}]}"))
	others, _ := render(t, "second", nil)
	all := append(objects(t, documents), objects(t, others)...)
	policies := policiesOf(all)
	ends := map[string]end{
		"stranger":   {},
		"guest":      {labels: map[string]string{"app": "guest"}},
		"elsewhere":  {elsewhere: true},
		"prometheus": {elsewhere: true, labels: map[string]string{"app.kubernetes.io/name": "prometheus"}},
	}
	ports := map[int]bool{}
	for _, p := range policies {
		if !slices.Equal(p.Spec.PolicyTypes, []networkingv1.PolicyType{"Ingress", "Egress"}) {
			t.Errorf("%s: types %q", p.Name, p.Spec.PolicyTypes)
		}
	}
	for name, p := range pods(all) {
		ends[strings.TrimPrefix(name, "milepost-")] = end{labels: p.Labels}
		for _, port := range p.Spec.Containers[0].Ports {
			ports[int(port.ContainerPort)] = true
		}
	}
	want := map[string]string{ // to → from, beside their equals in the second release
		"broker:6379":   "db distance email guest test users weather web-api",
		"cache:6379":    "users weather",
		"mongo:27017":   "db email users",
		"users:8001":    "web-api",
		"weather:8002":  "web-api",
		"web-api:8000":  "elsewhere guest prometheus stranger test",
		"web-api:9100":  "prometheus",
		"distance:9101": "prometheus",
		"db:9102":       "prometheus",
		"email:9103":    "prometheus",
		"weather:9104":  "prometheus",
		"users:9105":    "prometheus",
	}
	got := map[string]string{}
	for _, to := range slices.Sorted(maps.Keys(ends)) {
		if ends[to].elsewhere || to == "stranger" || to == "guest" || strings.HasPrefix(to, "second-milepost-") {
			continue
		}
		for port := range ports {
			var may []string
			for _, from := range slices.Sorted(maps.Keys(ends)) {
				if from != to && allowed(policies, ends[from], ends[to], port) {
					may = append(may, from)
				}
			}
			if len(may) > 0 {
				got[to+":"+strconv.Itoa(port)] = strings.Join(may, " ")
			}
		}
	}
	for _, to := range slices.Sorted(maps.Keys(merged(want, got))) {
		if got[to] != want[to] {
			t.Errorf("%s may be reached by %q, want %q", to, got[to], want[to])
		}
	}
	// Names are looked up, and only weather reaches further.
	for from, e := range ends {
		name, ours := strings.CutPrefix(from, "second-milepost-")
		if may := allowed(policies, e, end{elsewhere: true}, 53); ours && may == slices.Contains([]string{"broker", "cache", "mongo"}, name) {
			t.Errorf("%s may ask for names: %v", from, may)
		}
	}
	if far := beyond(policies); !slices.Equal(far, []string{"milepost-weather", "second-milepost-weather"}) {
		t.Errorf("beyond the cluster: %q, want only weather", far)
	}
}

// beyond names the policies that let pods reach addresses outside of the cluster.
func beyond(policies []*networkingv1.NetworkPolicy) (names []string) {
	for _, p := range policies {
		for _, r := range p.Spec.Egress {
			if slices.ContainsFunc(r.To, func(to networkingv1.NetworkPolicyPeer) bool { return to.IPBlock != nil }) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

func merged(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
