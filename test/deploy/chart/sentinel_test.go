package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/milepost/milepost/pkg/config"
)

// With broker.mode=sentinel every program finds the master by the Sentinels of all pods, with the
// password of both, and the broker's settings fit WAIT_REPLICAS.
func TestSentinel(t *testing.T) {
	for over, want := range map[string]struct {
		password string
		wait     int
	}{
		"{broker: {mode: sentinel}, tools: {enabled: true}}":                                                     {"", 2},
		"{broker: {mode: sentinel, auth: {enabled: true}, sentinel: {waitReplicas: 1}}, tools: {enabled: true}}": {"milepost-broker/password", 1},
	} {
		all := rendered(t, "milepost", over)
		set := find[*appsv1.StatefulSet](t, all, "milepost-broker")
		service := find[*corev1.Service](t, all, set.Spec.ServiceName)
		if *set.Spec.Replicas != 3 || service.Spec.ClusterIP != "None" || !service.Spec.PublishNotReadyAddresses || set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
			t.Errorf("%s: %d nodes, policy %s, %+v", over, *set.Spec.Replicas, set.Spec.PodManagementPolicy, service.Spec)
		}
		var sentinels []string
		for i := range 3 {
			sentinels = append(sentinels, fmt.Sprintf("%s-%d.%s.default.svc:26379", set.Name, i, service.Name))
		}
		node := env(set.Spec.Template)
		if node["MIN_REPLICAS"] != fmt.Sprint(want.wait) || node["SENTINELS"] != strings.Join(sentinels, " ") || node["NODES"] != strings.ReplaceAll(node["SENTINELS"], ":26379", ":6379") {
			t.Errorf("%s: a node has %v", over, node)
		}
		for name, p := range pods(all) {
			if slices.Contains([]string{set.Name, "milepost-cache", "milepost-mongo"}, name) {
				continue
			}
			vars := env(p)
			var cfg config.Broker
			if err := config.Load(func(v string) string { return vars[v] }, &cfg); err != nil {
				t.Errorf("%s, %s: %v", over, name, err)
				continue
			}
			if f := cfg.Failover(); f == nil || !slices.Equal(f.SentinelAddrs, sentinels) || f.MasterName != "pipeline" || f.Password != want.password || f.SentinelPassword != want.password || cfg.WaitFor != want.wait {
				t.Errorf("%s, %s: %+v, WAIT_REPLICAS %d", over, name, f, cfg.WaitFor)
			}
		}
	}
}

// Nodes and Sentinels reach each other, who uses the broker reaches both, and nobody else does.
func TestSentinelPolicies(t *testing.T) {
	all := rendered(t, "milepost", "broker: {mode: sentinel}")
	policies := policiesOf(all)
	ends := map[string]end{"stranger": {}}
	for name, p := range pods(all) {
		ends[strings.TrimPrefix(name, "milepost-")] = end{labels: p.Labels}
	}
	users := strings.Fields("broker db distance email test users weather web-api")
	for from, e := range ends {
		for _, port := range []int{6379, 26379} {
			if may := allowed(policies, e, ends["broker"], port); may != slices.Contains(users, from) {
				t.Errorf("%s may reach port %d of the broker: %v", from, port, may)
			}
		}
	}
	if allowed(policies, ends["broker"], ends["mongo"], 27017) {
		t.Error("the broker may reach mongo")
	}
}

// With broker.mode=cluster every program finds the nodes, with SHARDS, password and WAIT_REPLICAS;
// the policies open the ports of all of them, and the chart runs no broker.
func TestCluster(t *testing.T) {
	all := rendered(t, "milepost", `{broker: {mode: cluster, external: {host: n0}, cluster: {nodes: [n1, "n2:7000"], shards: 32, waitReplicas: 1}, auth: {enabled: true, existingSecret: s}}, tools: {enabled: true}}`)
	policies := policiesOf(all)
	for name, p := range pods(all) {
		uses := name != "milepost-cache" && name != "milepost-mongo"
		for _, port := range []int{6379, 7000} {
			if may := allowed(policies, end{labels: p.Labels}, end{elsewhere: true}, port); may != uses {
				t.Errorf("%s may reach port %d elsewhere: %v", name, port, may)
			}
		}
		if !uses {
			continue
		}
		vars := env(p)
		var cfg config.Broker
		if err := config.Load(func(v string) string { return vars[v] }, &cfg); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if o := cfg.Options(); o.Addr != "n0:6379" || o.Password != "s/password" || !slices.Equal(cfg.Nodes(), []string{"n1:6379", "n2:7000"}) || cfg.WaitFor != 1 || cfg.Shards != 32 {
			t.Errorf("%s: %s, password %s, further nodes %q, SHARDS %d, WAIT_REPLICAS %d", name, o.Addr, o.Password, cfg.Nodes(), cfg.Shards, cfg.WaitFor)
		}
	}
	if _, ok := pods(all)["milepost-broker"]; ok {
		t.Error("the chart runs a broker, too")
	}
}
