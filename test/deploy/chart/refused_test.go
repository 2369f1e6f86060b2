package chart

import (
	"strings"
	"testing"
)

// Values that would not do what they say are refused, with the place of the mistake.
func TestRefused(t *testing.T) {
	c := load(t)
	for over, says := range map[string]string{
		"components: {email: {replicas: 2}}":                                                                                      "/components/email/replicas",
		"components: {email: {single: false}}":                                                                                    "/components/email/single",
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
		"components: {tide: {replicas: 1}}":                                    "'adminPort'",
		"components: {Tide: {adminPort: 9106}}":                                "propertyName 'Tide'",
		"components: {broker: {adminPort: 9106}}":                              "propertyName 'broker'",
		"defaults: {port: 8000}":                                               "propertyName 'port'",
		"broker: {enabled: false}":                                             "/broker/external",
		"mongo: {enabled: false}":                                              "/mongo/external",
		"mongo: {external: {host: mongodb://x}}":                               "/mongo/external/host",
		"broker: {external: {port: '6379'}}":                                   "/broker/external/port",
		"broker: {auth: {password: secret}}":                                   "'password' not allowed",
		"broker: {enabled: false, external: {host: r}, auth: {enabled: true}}": "/broker/auth/existingSecret",
		"cache: {enabled: false, external: {host: r}, auth: {enabled: true}}":  "/cache/auth/existingSecret",
		"cache: {extraConfig: {maxmemory: 1gb}}":                               "/cache/extraConfig",
		"mongo: {database: a b}":                                               "/mongo/database",
		"ingress: {host: http://page.example.com}":                             "/ingress/host",
		"ingress: {hosts: [a]}":                                                "'hosts' not allowed",
		"image: {pullPolicy: Sometimes}":                                       "/image/pullPolicy",
		"test: {within: 60}":                                                   "/test/within",
		"monitoring: {podMonitor: {enabled: 'yes'}}":                           "/monitoring/podMonitor/enabled",
		"keyPrefix: '{shop}'":                                                  "/keyPrefix",
		"keda: {prometheus: prometheus:9090}":                                  "/keda/prometheus",
		"global: {imagePullSecrets: pull}":                                     "/global/imagePullSecrets",
		"redis_host: redis":                                                    "'redis_host' not allowed",
	} {
		if _, _, err := tryRender(c, "milepost", values(t, "", over)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want an error with %q", over, err, says)
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
