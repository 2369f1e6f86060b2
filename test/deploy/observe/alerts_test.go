package observe

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"
)

// files is what compose and the chart mount.
const files = "../../../charts/milepost/files/"

// alerts reads the rules. Reading checks queries and templates, too.
func alerts(t testing.TB) []rulefmt.Rule {
	t.Helper()
	all, errs := rulefmt.ParseFile(files+"alerts.yml", false)
	if len(errs) > 0 {
		t.Fatalf("alerts.yml: %v", errs)
	}
	var rules []rulefmt.Rule
	for _, g := range all.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// fired is an alert that fires.
type fired struct{ labels, summary, description string }

// firing evaluates a rule every 15 s from the beginning of time to at, and returns what fires then.
func firing(t testing.TB, r rulefmt.Rule, m memory, at time.Duration) []fired {
	t.Helper()
	active := map[string]time.Duration{}
	var out []fired
	for now := time.Duration(0); now <= at; now += every {
		vector := m.ask(t, r.Expr, time.Unix(0, 0).Add(now))
		seen := map[string]time.Duration{}
		for _, s := range vector {
			key := s.Metric.DropMetricName().String()
			if _, doubled := seen[key]; doubled {
				t.Fatalf("%s: two alerts with the same labels %s", r.Alert, key)
			}
			since, ok := active[key]
			if !ok {
				since = now
			}
			seen[key] = since
			if now+every > at && now-since >= time.Duration(r.For) {
				out = append(out, fired{key, expand(t, r, r.Annotations["summary"], s), expand(t, r, r.Annotations["description"], s)})
			}
		}
		active = seen
	}
	slices.SortFunc(out, func(a, b fired) int { return strings.Compare(a.labels, b.labels) })
	return out
}

// expand fills in a rule's annotation as Prometheus does.
func expand(t testing.TB, r rulefmt.Rule, text string, s promql.Sample) string {
	t.Helper()
	const head = `{{$labels := .Labels}}{{$value := .Value}}`
	data := template.AlertTemplateData(s.Metric.DropMetricName().Map(), nil, "", s)
	out, err := template.NewTemplateExpander(t.Context(), head+text, r.Alert, data, model.Time(s.T), nil, &url.URL{}, nil).Expand()
	if err != nil {
		t.Fatalf("%s: %q: %v", r.Alert, text, err)
	}
	return out
}

// steps is how many samples a duration has.
func steps(d time.Duration) int { return int(d / every) }

// constant is a series that keeps a value.
func constant(name string, v float64, d time.Duration) string {
	return fmt.Sprintf("%s %gx%d", name, v, steps(d))
}

// grows is a series that grows by a number each 15 s.
func grows(name string, by float64, d time.Duration) string {
	return fmt.Sprintf("%s 0+%gx%d", name, by, steps(d))
}

// allRun are the stages that must run, running.
var allRun = []string{
	constant(`stage_consumers{stage="distance"}`, 1, time.Hour),
	constant(`stage_consumers{stage="db"}`, 1, time.Hour),
	constant(`stage_consumers{stage="email"}`, 1, time.Hour),
}

// gone is a series that ends after a while, as that of a process that went away.
func gone(name string, v float64, after time.Duration) string {
	return fmt.Sprintf("%s %gx%d stale", name, v, steps(after))
}

type alertTest struct {
	name   string
	series []string
	at     time.Duration
	want   []string // labels of what fires
	says   string   // what its description contains
}

// alertTests has, for each alert, what makes it fire and what does not.
var alertTests = map[string][]alertTest{
	"MilepostStageNotRun": {
		{name: "all run", series: allRun, at: 30 * time.Minute},
		{name: "db went away", series: []string{allRun[0], allRun[2], gone(`stage_consumers{stage="db"}`, 2, 10*time.Minute)},
			at: 13 * time.Minute, want: []string{`{stage="db"}`}, says: "No process has reported as stage db"},
		{name: "one of two replicas went away", series: append([]string{gone(`stage_consumers{instance="b",stage="db"}`, 2, 10*time.Minute)}, allRun...),
			at: 13 * time.Minute},
		{name: "db is being restarted", series: []string{allRun[0], allRun[2], fmt.Sprintf(`stage_consumers{stage="db"} 1x%d stale _x5 1x20`, steps(10*time.Minute))},
			at: 11 * time.Minute},
		{name: "email never was", series: allRun[:2], at: 3 * time.Minute, want: []string{`{stage="email"}`}},
		{name: "nothing at all", at: 3 * time.Minute, want: []string{`{stage="db"}`, `{stage="distance"}`, `{stage="email"}`}},
		{name: "in one of two namespaces", series: append([]string{gone(`stage_consumers{namespace="staging",stage="email"}`, 1, 10*time.Minute)}, allRun...),
			at: 13 * time.Minute, want: []string{`{namespace="staging", stage="email"}`}},
	},
	"MilepostGroupNotRun": {
		{name: "weather runs", series: []string{constant(`stage_consumers{stage="weather"}`, 1, time.Hour)}, at: 40 * time.Minute},
		{name: "weather went away", series: []string{gone(`stage_consumers{stage="weather"}`, 1, 10*time.Minute)},
			at: 25 * time.Minute, want: []string{`{stage="weather"}`}, says: "retire the group"},
		{name: "weather is away for a moment", series: []string{gone(`stage_consumers{stage="weather"}`, 1, 10*time.Minute)}, at: 19 * time.Minute},
		{name: "db has an alert of its own", series: []string{gone(`stage_consumers{stage="db"}`, 1, 10*time.Minute)}, at: 25 * time.Minute},
	},
	"MilepostStagePaused": {
		{name: "paused", series: []string{constant(`stage_paused{instance="a",stage="db"}`, 1, 5*time.Minute), constant(`stage_paused{instance="b",stage="db"}`, 0, 5*time.Minute)},
			at: 5 * time.Minute, want: []string{`{stage="db"}`}, says: "Stage db has not read for 2 minutes"},
		{name: "paused for a moment", series: []string{`stage_paused{stage="db"} 0x4 1x4 0x20`}, at: 5 * time.Minute},
		{name: "reads", series: []string{constant(`stage_paused{stage="db"}`, 0, 5*time.Minute)}, at: 5 * time.Minute},
	},
	"MilepostShardsWait": {
		{name: "wait", series: []string{constant(`stage_shards_waiting{instance="a",stage="email"}`, 8, 5*time.Minute)},
			at: 5 * time.Minute, want: []string{`{stage="email"}`}, says: "no process has read 8 shards of stage email"},
		{name: "change their writer", series: []string{`stage_shards_waiting{stage="email"} 0x4 8x4 0x20`}, at: 5 * time.Minute},
	},
	"MilepostBacklogGrowing": {
		{name: "grows", series: []string{grows(`stage_backlog_entries{instance="a",stage="distance"}`, 100, time.Hour), grows(`stage_backlog_entries{instance="b",stage="distance"}`, 100, time.Hour)},
			at: 30 * time.Minute, want: []string{`{stage="distance"}`}, says: "has 12000 unsettled entries"},
		{name: "shrinks", series: []string{fmt.Sprintf(`stage_backlog_entries{stage="distance"} 100000-100x%d`, steps(time.Hour))}, at: 30 * time.Minute},
		{name: "grows, and is small", series: []string{grows(`stage_backlog_entries{stage="distance"}`, 1, time.Hour)}, at: 30 * time.Minute},
		{name: "is as large as it was", series: []string{constant(`stage_backlog_entries{stage="distance"}`, 50000, time.Hour)}, at: 30 * time.Minute},
	},
	"MilepostBacklogNearLimit": {
		{name: "half full", series: []string{constant(`stage_backlog_entries{stage="db"}`, 500001, 5*time.Minute)}, at: 3 * time.Minute,
			want: []string{`{stage="db"}`}, says: "has 500001 unsettled entries"},
		{name: "nearly half full", series: []string{constant(`stage_backlog_entries{stage="db"}`, 499999, 5*time.Minute)}, at: 3 * time.Minute},
	},
	"MilepostEventsLate": {
		{name: "late", series: []string{constant(`stage_oldest_unsettled_seconds{stage="email"}`, 61, 5*time.Minute)}, at: 3 * time.Minute,
			want: []string{`{stage="email"}`}, says: "is 1m 1s old"},
		{name: "in time", series: []string{constant(`stage_oldest_unsettled_seconds{stage="email"}`, 59, 5*time.Minute)}, at: 3 * time.Minute},
		{name: "late for a moment", series: []string{`stage_oldest_unsettled_seconds{stage="email"} 0x5 61x2 0x20`}, at: 2 * time.Minute},
	},
	"MilepostEventsStuck": {
		{name: "stuck", series: []string{fmt.Sprintf(`stage_oldest_unsettled_seconds{stage="email"} 0+15x%d`, steps(time.Hour))}, at: 20 * time.Minute,
			want: []string{`{stage="email"}`}, says: "is 20m 0s old"},
		{name: "late", series: []string{constant(`stage_oldest_unsettled_seconds{stage="email"}`, 899, 5*time.Minute)}, at: 3 * time.Minute},
	},
	"MilepostDeadLetters": {
		{name: "new ones", series: []string{`stage_dead_total{instance="a",stage="db"} 0x10 5x20`, `stage_dead_total{instance="b",stage="db"} 0x30`}, at: 5 * time.Minute,
			want: []string{`{stage="db"}`}, says: "new dead letters of stage db within 10 minutes"},
		{name: "old ones", series: []string{constant(`stage_dead_total{stage="db"}`, 5, time.Hour)}, at: 20 * time.Minute},
	},
	"MilepostDeadLettersNearLimit": {
		{name: "half full", series: []string{constant(`stage_dead_letters{stage="distance"}`, 50001, 5*time.Minute)}, at: 3 * time.Minute,
			want: []string{`{stage="distance"}`}, says: "has 50001 dead letters"},
		{name: "nearly half full", series: []string{constant(`stage_dead_letters{stage="distance"}`, 49999, 5*time.Minute)}, at: 3 * time.Minute},
	},
	"MilepostRetries": {
		{name: "a fifth", series: []string{grows(`stage_settled_total{outcome="retry",stage="weather"}`, 1, time.Hour), grows(`stage_settled_total{outcome="forward",stage="weather"}`, 4, time.Hour)},
			at: 20 * time.Minute, want: []string{`{stage="weather"}`}, says: "20% of what stage weather handles"},
		{name: "a twentieth", series: []string{grows(`stage_settled_total{outcome="retry",stage="weather"}`, 1, time.Hour), grows(`stage_settled_total{outcome="forward",stage="weather"}`, 19, time.Hour)},
			at: 20 * time.Minute},
		{name: "nothing to do", series: []string{constant(`stage_settled_total{outcome="retry",stage="weather"}`, 7, time.Hour), constant(`stage_settled_total{outcome="forward",stage="weather"}`, 7, time.Hour)},
			at: 20 * time.Minute},
	},
	"MilepostConsumersDie": {
		{name: "again and again", series: []string{`stage_taken_over_total{stage="db"} 0x10 1x10 2x10 3x10 4x10 5x10`}, at: 15 * time.Minute,
			want: []string{`{stage="db"}`}, says: "died within 30 minutes"},
		{name: "one", series: []string{`stage_taken_over_total{stage="db"} 0x10 1x50`}, at: 15 * time.Minute},
	},
	"MilepostEventsLost": {
		{name: "loses", series: []string{`stage_lost_entries{instance="a",stage="weather"} 3x20 1003x40`}, at: 10 * time.Minute,
			want: []string{`{stage="weather"}`}, says: "entries were trimmed within 10 minutes"},
		{name: "lost, and was restarted", series: []string{`stage_lost_entries{instance="a",stage="weather"} 3x20 stale`, `stage_lost_entries{instance="b",stage="weather"} _x20 1003x40`},
			at: 10 * time.Minute, want: []string{`{stage="weather"}`}},
		{name: "lost some long ago, and was restarted", series: []string{`stage_lost_entries{instance="a",stage="weather"} 3x20 stale`, `stage_lost_entries{instance="b",stage="weather"} _x20 3x40`},
			at: 10 * time.Minute},
	},
	"MilepostLiveDropped": {
		{name: "drops", series: []string{`stage_dropped_total{stage="distance"} 0x10 2x20`}, at: 5 * time.Minute,
			want: []string{`{stage="distance"}`}, says: "messages that other programs published"},
		{name: "dropped long ago", series: []string{constant(`stage_dropped_total{stage="distance"}`, 2, time.Hour)}, at: 20 * time.Minute},
	},
	"MilepostBrokerFilling": {
		{name: "fills", series: append(broker("a", 90, 100), broker("b", 85, 100)...), at: 10 * time.Minute,
			want: []string{`{}`}, says: "uses 90% of its maxmemory"},
		{name: "one of two namespaces", series: append(broker("a", 70, 100), broker(`b",namespace="shop`, 81, 100)...), at: 10 * time.Minute,
			want: []string{`{namespace="shop"}`}, says: "uses 81% of its maxmemory"},
		{name: "one master of a cluster", series: append(broker(`a",node="n1:6379`, 60, 100), broker(`a",node="n2:6379`, 85, 100)...), at: 10 * time.Minute,
			want: []string{`{}`}, says: "uses 85% of its maxmemory"},
		{name: "has room", series: broker("a", 79, 100), at: 10 * time.Minute},
		{name: "filled for a moment", series: []string{`stage_redis_memory_used_bytes{instance="a"} 50x4 99x15 50x30`, constant(`stage_redis_memory_max_bytes{instance="a"}`, 100, time.Hour)},
			at: 6 * time.Minute},
		{name: "has no limit", series: broker("a", 1e12, 100)[:1], at: 10 * time.Minute},
	},
	"MilepostBrokerNearlyFull": {
		{name: "nearly full", series: append(broker("a", 96, 100), waits), at: 5 * time.Minute, want: []string{`{}`}, says: "uses 96% of its maxmemory"},
		{name: "fills", series: append(broker("a", 94, 100), waits), at: 5 * time.Minute},
		{name: "holds progress and keys", series: broker("a", 100, 100), at: 5 * time.Minute},
		{name: "has no limit", series: append(broker("a", 1e12, 100)[:1], waits), at: 5 * time.Minute},
	},
	"MilepostSubmissionsRefused": {
		{name: "full", series: []string{grows(`milepost_submissions_total{outcome="backlog"}`, 30, time.Hour), grows(`milepost_submissions_total{outcome="accepted"}`, 1, time.Hour)},
			at: 5 * time.Minute, want: []string{`{outcome="backlog"}`}, says: "2.00 submissions a second are answered 503, because of a backlog over MAX_BACKLOG"},
		{name: "away", series: []string{grows(`milepost_submissions_total{outcome="unavailable"}`, 15, time.Hour)},
			at: 5 * time.Minute, want: []string{`{outcome="unavailable"}`}, says: "because of a Redis that is away or full"},
		{name: "limited", series: []string{grows(`milepost_submissions_total{outcome="limited"}`, 30, time.Hour), grows(`milepost_submissions_total{outcome="accepted"}`, 1, time.Hour)}, at: 5 * time.Minute},
		{name: "was full", series: []string{constant(`milepost_submissions_total{outcome="backlog"}`, 7, time.Hour)}, at: 5 * time.Minute},
	},
	"MilepostRequestErrors": {
		{name: "fails", series: []string{grows(`http_requests_total{code="500",method="GET",route="/"}`, 1, time.Hour), grows(`http_requests_total{code="200",method="GET",route="/"}`, 9, time.Hour)},
			at: 15 * time.Minute, want: []string{`{route="/"}`}, says: "10% of the requests to / are answered 5xx"},
		{name: "refuses, which has an alert of its own", series: []string{grows(`http_requests_total{code="503",method="POST",route="/distance"}`, 1, time.Hour), grows(`http_requests_total{code="201",method="POST",route="/distance"}`, 1, time.Hour)},
			at: 15 * time.Minute},
		{name: "was asked wrongly", series: []string{grows(`http_requests_total{code="422",method="POST",route="/distance"}`, 1, time.Hour), grows(`http_requests_total{code="201",method="POST",route="/distance"}`, 1, time.Hour)},
			at: 15 * time.Minute},
		{name: "one in a thousand", series: []string{grows(`http_requests_total{code="500",route="/"}`, 1, time.Hour), grows(`http_requests_total{code="200",route="/"}`, 999, time.Hour)},
			at: 15 * time.Minute},
	},
	"MilepostRequestsSlow": {
		{name: "slow", series: slow("/distance", 4), at: 20 * time.Minute, want: []string{`{route="/distance"}`}, says: "take longer than"},
		{name: "fast", series: slow("/distance", 0.25), at: 20 * time.Minute},
		{name: "overviews wait for others, and tell", series: slow("/overview", 4), at: 20 * time.Minute},
		{name: "nobody asks", series: []string{constant(`http_request_duration_seconds_bucket{le="1",route="/"}`, 5, time.Hour), constant(`http_request_duration_seconds_bucket{le="+Inf",route="/"}`, 9, time.Hour)},
			at: 20 * time.Minute},
	},
	"MilepostNoLogWriter": {
		{name: "two stand by", series: []string{constant(`milepost_email_writer{instance="a"}`, 0, 5*time.Minute), constant(`milepost_email_writer{instance="b"}`, 0, 5*time.Minute)},
			at: 4 * time.Minute, want: []string{`{}`}, says: "Emails wait"},
		{name: "one of two numbers stands by", series: []string{constant(`milepost_email_writer{writer="0"}`, 1, 5*time.Minute), constant(`milepost_email_writer{writer="1"}`, 0, 5*time.Minute)},
			at: 4 * time.Minute, want: []string{`{writer="1"}`}},
		{name: "one writes", series: []string{constant(`milepost_email_writer{instance="a"}`, 1, 5*time.Minute), constant(`milepost_email_writer{instance="b"}`, 0, 5*time.Minute)}, at: 4 * time.Minute},
		{name: "change of writers", series: []string{`milepost_email_writer{instance="a"} 1x5 stale`, `milepost_email_writer{instance="b"} 0x8 1x20`}, at: 4 * time.Minute},
	},
	"MilepostTwoLogWriters": {
		{name: "two write", series: []string{constant(`milepost_email_writer{instance="a"}`, 1, 5*time.Minute), constant(`milepost_email_writer{instance="b"}`, 1, 5*time.Minute)},
			at: 4 * time.Minute, want: []string{`{}`}, says: "2 email processes report"},
		{name: "one writes", series: []string{constant(`milepost_email_writer{instance="a"}`, 1, 5*time.Minute), constant(`milepost_email_writer{instance="b"}`, 0, 5*time.Minute)}, at: 4 * time.Minute},
		{name: "two writers of a cluster", series: []string{constant(`milepost_email_writer{instance="a",writer="0"}`, 1, 5*time.Minute), constant(`milepost_email_writer{instance="b",writer="1"}`, 1, 5*time.Minute)}, at: 4 * time.Minute},
		{name: "two namespaces", series: []string{constant(`milepost_email_writer{namespace="a"}`, 1, 5*time.Minute), constant(`milepost_email_writer{namespace="b"}`, 1, 5*time.Minute)}, at: 4 * time.Minute},
	},
	"MilepostTargetDown": {
		{name: "down in compose", series: []string{constant(`up{app="milepost",container="db",instance="10.0.0.7:9102",job="milepost"}`, 0, 5*time.Minute)}, at: 4 * time.Minute,
			want: []string{`{app="milepost", container="db", instance="10.0.0.7:9102", job="milepost"}`}, says: "The admin port of db at 10.0.0.7:9102 (job milepost)"},
		{name: "down in a cluster", series: []string{constant(`up{app="milepost",instance="10.0.0.7:9102",job="shop"}`, 0, 5*time.Minute)}, at: 4 * time.Minute,
			want: []string{`{app="milepost", instance="10.0.0.7:9102", job="shop"}`}},
		{name: "up", series: []string{constant(`up{app="milepost",job="milepost"}`, 1, 5*time.Minute)}, at: 4 * time.Minute},
		{name: "somebody else's", series: []string{constant(`up{app="grafana",job="milepost-grafana"}`, 0, 5*time.Minute)}, at: 4 * time.Minute},
	},
	"MilepostNotReady": {
		{name: "waits", series: []string{constant(`milepost_ready{check="mongo",container="db",instance="a"}`, 0, 10*time.Minute)}, at: 6 * time.Minute,
			want: []string{`{check="mongo", container="db", instance="a"}`}, says: "The check mongo of db at a has failed"},
		{name: "starts", series: []string{`milepost_ready{check="mongo",instance="a"} 0x16 1x30`}, at: 6 * time.Minute},
	},
	"MilepostPoolTimeouts": {
		{name: "Redis", series: []string{grows(`milepost_redis_pool_timeouts_total{client="pipeline",instance="a",job="milepost"}`, 1, time.Hour)}, at: 15 * time.Minute,
			want: []string{`{instance="a", job="milepost"}`}, says: "20 calls of a got no connection"},
		{name: "MongoDB", series: []string{grows(`milepost_mongo_pool_failed_total{instance="a",job="milepost"}`, 1, time.Hour)}, at: 15 * time.Minute,
			want: []string{`{instance="a", job="milepost"}`}},
		{name: "none", series: []string{constant(`milepost_redis_pool_timeouts_total{instance="a"}`, 3, time.Hour), constant(`milepost_mongo_pool_failed_total{instance="a"}`, 0, time.Hour)}, at: 15 * time.Minute},
	},
	"MilepostCacheAway": {
		{name: "away", series: []string{grows(`milepost_cache_requests_total{cache="weather",outcome="away"}`, 15, time.Hour)}, at: 15 * time.Minute,
			want: []string{`{cache="weather"}`}, says: "1.00 look-ups a second of weather"},
		{name: "misses", series: []string{grows(`milepost_cache_requests_total{cache="weather",outcome="miss"}`, 15, time.Hour), constant(`milepost_cache_requests_total{cache="weather",outcome="away"}`, 4, time.Hour)},
			at: 15 * time.Minute},
	},
}

// waits is a backlog.
var waits = constant(`stage_backlog_entries{stage="db"}`, 50_000, time.Hour)

// broker is what an instance says of the broker's memory: what is used, then the limit.
func broker(instance string, used, limit float64) []string {
	label := `{instance="` + instance + `"}`
	return []string{constant("stage_redis_memory_used_bytes"+label, used, time.Hour), constant("stage_redis_memory_max_bytes"+label, limit, time.Hour)}
}

// slow are the buckets of a route all of whose requests take seconds.
func slow(route string, seconds float64) []string {
	var out []string
	for _, le := range []float64{0.1, 0.5, 1, 2.5, 5} {
		n := 0.0
		if seconds <= le {
			n = 10
		}
		out = append(out, grows(fmt.Sprintf(`http_request_duration_seconds_bucket{le="%g",route=%q}`, le, route), n, time.Hour))
	}
	return append(out, grows(fmt.Sprintf(`http_request_duration_seconds_bucket{le="+Inf",route=%q}`, route), 10, time.Hour))
}

func TestAlerts(t *testing.T) {
	for _, r := range alerts(t) {
		t.Run(r.Alert, func(t *testing.T) {
			if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
				t.Errorf("severity = %q", r.Labels["severity"])
			}
			some, none := false, false
			for _, tc := range alertTests[r.Alert] {
				some, none = some || len(tc.want) > 0, none || len(tc.want) == 0
				t.Run(tc.name, func(t *testing.T) {
					m := memory{}
					m.write(t, tc.series...)
					got := firing(t, r, m, tc.at)
					var l []string
					for _, f := range got {
						l = append(l, f.labels)
						if !strings.Contains(f.description, tc.says) {
							t.Errorf("its description is %q, want something with %q", f.description, tc.says)
						}
						if text := f.summary + f.description; f.summary == "" || strings.Contains(text, "<no value>") || strings.Contains(text, "  ") {
							t.Errorf("it says %q", text)
						}
					}
					if !slices.Equal(l, tc.want) {
						t.Errorf("after %s it fires for %v, want %v", tc.at, l, tc.want)
					}
					if early := time.Duration(r.For) - every; early > 0 && len(firing(t, r, m, early)) > 0 {
						t.Errorf("it fires after %s already", early)
					}
				})
			}
			if !some || !none {
				t.Errorf("tests that it fires: %t, that it does not: %t; want both", some, none)
			}
		})
	}
	for name := range alertTests {
		if !slices.ContainsFunc(alerts(t), func(r rulefmt.Rule) bool { return r.Alert == name }) {
			t.Errorf("there is no alert %s", name)
		}
	}
}
