package chart

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/engine"
)

// refused has values that cannot work, and what the error says.
var refused = map[string]string{
	"components: {email: {keda: {enabled: true, minReplicas: 1, maxReplicas: 2, backlog: 1}}}":                                "/components/email/keda/enabled",
	"components: {email: {autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 2, targetCPUUtilizationPercentage: 50}}}": "/components/email/autoscaling/enabled",
	"components: {email: {strategy: RollingUpdate}}":                                                                          "'strategy' not allowed",
	"components: {db: {single: true, replicas: 3}}":                                                                           "/components/db/replicas",
	"components: {db: {replicas: -1}}":                                                                                        "/components/db/replicas",
	"components: {db: {replicas: two}}":                                                                                       "/components/db/replicas",
	"components: {db: {replica: 2}}":                                                                                          "'replica' not allowed",
	"components: {db: {adminPort: 65536}}":                                                                                    "/components/db/adminPort",
	"components: {db: {env: {A B: x}}}":                                                                                       "propertyName 'A B'",
	"components: {db: {secretEnv: {A: {secret: x}}}}":                                                                         "'key'",
	"components: {db: {resources: {limits: {memory: 128MB}}}}":                                                                "/components/db/resources/limits/memory",
	"components: {db: {uses: [broker, mango]}}":                                                                               `"mango" is not broker, cache, mongo, internet or a component`,
	"components: {db: {uses: [broker, email]}}":                                                                               "email has no port",
	"components: {web-api: {autoscaling: {enabled: true}, keda: {enabled: true, minReplicas: 1, maxReplicas: 2, backlog: 1}}}": "autoscaling and keda are both enabled",
	"components: {tide: {replicas: 1}}":                                                     "'adminPort'",
	"components: {Tide: {adminPort: 9106}}":                                                 "propertyName 'Tide'",
	"components: {broker: {adminPort: 9106}}":                                               "propertyName 'broker'",
	"defaults: {port: 8000}":                                                                "propertyName 'port'",
	"broker: {enabled: false}":                                                              "/broker/external",
	"broker: {mode: external}":                                                              "/broker/external",
	"broker: {mode: cluster}":                                                               "/broker/external",
	"broker: {mode: sharded}":                                                               "/broker/mode",
	"broker: {mode: cluster, external: {host: r}, auth: {enabled: true}}":                   "/broker/auth/existingSecret",
	"broker: {cluster: {shards: 257}}":                                                      "/broker/cluster/shards",
	"broker: {cluster: {nodes: ['redis://n']}}":                                             "/broker/cluster/nodes/0",
	"{broker: {mode: cluster, external: {host: r}}, cache: {enabled: false}}":               "components.users uses a cache and there is none",
	"broker: {mode: sentinel, enabled: false, external: {host: r}}":                         "broker.mode is sentinel, but broker.enabled is false",
	"{redis_host: r, broker: {mode: sentinel}}":                                             "broker.mode is sentinel, but broker.enabled is false or redis_host is set",
	"broker: {mode: external, external: {host: r}, auth: {enabled: true}}":                  "/broker/auth/existingSecret",
	"broker: {sentinel: {waitReplicas: 3}}":                                                 "/broker/sentinel/waitReplicas",
	"cache: {mode: sentinel}":                                                               "/cache/mode",
	"mongo: {enabled: false}":                                                               "/mongo/external",
	"mongo: {external: {host: mongodb://x}}":                                                "/mongo/external/host",
	"broker: {external: {port: '6379'}}":                                                    "/broker/external/port",
	"broker: {auth: {password: secret}}":                                                    "'password' not allowed",
	"broker: {enabled: false, external: {host: r}, auth: {enabled: true}}":                  "/broker/auth/existingSecret",
	"cache: {enabled: false, external: {host: r}, auth: {enabled: true}}":                   "/cache/auth/existingSecret",
	"cache: {extraConfig: {maxmemory: 1gb}}":                                                "/cache/extraConfig",
	"mongo: {database: a b}":                                                                "/mongo/database",
	"ingress: {host: http://page.example.com}":                                              "/ingress/host",
	"image: {pullPolicy: Sometimes}":                                                        "/image/pullPolicy",
	"test: {within: 60}":                                                                    "/test/within",
	"monitoring: {podMonitor: {enabled: 'yes'}}":                                            "/monitoring/podMonitor/enabled",
	"keyPrefix: '{shop}'":                                                                   "/keyPrefix",
	"keda: {prometheus: prometheus:9090}":                                                   "/keda/prometheus",
	"components: {email: {replicas: 2, persistence: {enabled: false}}}":                     "a standby needs the volume of the other pod",
	"components: {email: {replicas: 2, persistence: {accessMode: ReadWriteOncePod}}}":       "a standby needs the volume of the other pod",
	"components: {web-api: {autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 2}}}": "minReplicas is 5, which is above maxReplicas, 2",
	"components: {db: {keda: {enabled: true, minReplicas: 9}}}":                             "minReplicas is 9, which is above maxReplicas, 6",
	"components: {db: {extraEnv: [A]}}":                                                     "/components/db/extraEnv/0",
	"components: {db: {extraPodSpec: {containers: []}}}":                                    "propertyName 'containers'",
	"components: {web-api: {service: {type: External}}}":                                    "/components/web-api/service/type",
	"nameOverride: B_ad":                                                                    `begin with "milepost-B_ad", but Kubernetes wants lower-case letters`,
	"fullnameOverride: 1x":                                                                  `begin with "1x"`,
	"httpRoute: {enabled: true}":                                                            "httpRoute.parentRefs: name the Gateway",
	"redis_port: redis":                                                                     "/redis_port",
	"ingress: {hosts: [{paths: [x]}]}":                                                      "/ingress/hosts/0",
	"imagePullSecrets: [{nam: x}]":                                                          "/imagePullSecrets/0",
	"global: {imagePullSecrets: pull}":                                                      "/global/imagePullSecrets",
	"components: {email: {writers: 2}}":                                                     "several writers share the shards of a Redis Cluster",
	"components: {email: {writers: 0}}":                                                     "/components/email/writers",

	"{broker: {mode: cluster, external: {host: r}, cluster: {shards: 2}}, components: {email: {writers: 3}}}":                         "3 writers are more than broker.cluster.shards, 2",
	"{broker: {mode: cluster, external: {host: r}}, components: {email: {writers: 2, persistence: {enabled: false, mountPath: /a}}}}": "each writer needs a volume of its own",
}

// Values that would not do what they say are refused, with the place of the mistake.
func TestRefused(t *testing.T) {
	c := load(t)
	for over, says := range refused {
		if _, _, err := tryRender(c, "milepost", values(t, "", over)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want an error with %q", over, err, says)
		}
	}
	for release, says := range map[string]string{"1abc": `begin with "1abc-milepost", but Kubernetes wants`, "a.b": `"a.b-milepost"`} {
		if _, _, err := tryRender(c, release, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("release %s: %v; want an error with %q", release, err, says)
		}
	}
	// A parent chart says more than our values have.
	for _, over := range []string{
		"{enabled: true, global: {imageRegistry: r, anything: {of: others}}}", "{fullnameOverride: x, components: {weather: {enabled: false}}}", "components: {db: {resources: {limits: {memory: 1.5Gi, cpu: 2}}}}",
	} {
		if _, _, err := tryRender(c, "milepost", values(t, "", over)); err != nil {
			t.Errorf("%s: %v", over, err)
		}
	}
}

// Helm removes a value that is set to null. What then cannot work is refused by a sentence, not by
// an error of Go.
func TestNulls(t *testing.T) {
	c := load(t)
	var try func(path []string, values map[string]any)
	try = func(path []string, values map[string]any) {
		for key, value := range values {
			inside, isMap := value.(map[string]any)
			if _, isList := value.([]any); !isMap && !isList || key == "cache" { // as broker
				continue
			}
			at := append(slices.Clone(path), key)
			var over any
			for _, k := range slices.Backward(at) {
				over = map[string]any{k: over}
			}
			documents, _, err := renderWith(engine.Engine{}, c, "milepost", over.(map[string]any))
			if err != nil && regexp.MustCompile(`nil|interface|wrong type|map has no entry|executing "milepost/templates`).MatchString(err.Error()) && !strings.Contains(err.Error(), "error calling fail") {
				t.Errorf("%s: null: %v", strings.Join(at, "."), err)
			} else if err == nil {
				objects(t, documents)
			}
			try(at, inside)
		}
	}
	try(nil, c.Values)
}
