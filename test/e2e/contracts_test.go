//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// contract is an AsyncAPI or OpenAPI document.
type contract struct {
	t     *testing.T
	doc   map[string]any
	c     *jsonschema.Compiler
	tried map[string]bool // "get /users/{email}"
}

func readContract(t *testing.T, path string) *contract {
	t.Helper()
	var inYAML any
	if err := yaml.Unmarshal([]byte(read(t, path)), &inYAML); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	text, err := json.Marshal(inYAML)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	closed(doc)
	k := &contract{t, doc.(map[string]any), jsonschema.NewCompiler(), map[string]bool{}}
	k.c.AssertFormat()
	if err := k.c.AddResource("contract.json", doc); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return k
}

// closed makes every object of a document refuse keys that the document does not name. Others must
// ignore such keys, but what our programs send has to be in the document.
func closed(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, x := range v {
			closed(x)
		}
	case []any:
		for _, x := range v {
			closed(x)
		}
	}
}

// valid checks JSON against the schema at a path of the document.
func (k *contract) valid(what string, body []byte, path ...string) {
	k.t.Helper()
	pointer := "contract.json#"
	for _, p := range path {
		pointer += "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(p))
	}
	schema, err := k.c.Compile(pointer)
	if err != nil {
		k.t.Errorf("%s: %v", what, err)
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		k.t.Errorf("%s: %s: %v", what, body, err)
	}
}

// asks sends a request for a path template of the document, and checks the answer. Query or body
// may be "".
func (k *contract) asks(base, method, template, path, body string, status int) {
	k.t.Helper()
	k.tried[strings.ToLower(method)+" "+template] = true
	r, err := http.NewRequestWithContext(k.t.Context(), method, base+path, strings.NewReader(body))
	stagetest.OK(k.t, err)
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	resp, err := client.Do(r)
	stagetest.OK(k.t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		k.t.Errorf("%s %s: %d, %v: %s; want %d", method, path, resp.StatusCode, err, got, status)
		return
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "application/yaml" {
		got, _ = json.Marshal(string(got))
	}
	k.valid(method+" "+path, got, "paths", template, strings.ToLower(method), "responses", strconv.Itoa(status), "content", kind, "schema")
}

// complete checks that each operation of the document was tried.
func (k *contract) complete() {
	k.t.Helper()
	for path, item := range k.doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			if !k.tried[method+" "+path] {
				k.t.Errorf("no request tries %s %s", method, path)
			}
		}
	}
}

// TestContracts checks what the programs send and answer against asyncapi.yaml and openapi.yaml.
func TestContracts(t *testing.T) {
	t.Parallel()
	p, services := newWhole(t)
	users, weather, web := services[0], services[1], services[2]
	var id string
	t.Run("web-api", func(t *testing.T) {
		k := readContract(t, "services/web-api/openapi.yaml")
		k.asks(web.url, "POST", "/distance", "/distance", `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060","track":true}`, 201)
		k.asks(web.url, "POST", "/distance", "/distance", `{"email":"ada","lat":"91","long":"x"}`, 422)
		k.asks(web.url, "POST", "/distance", "/distance", `{`, 400)
		p.delivered(golden.Email)
		sent, err := p.rdb.XRange(t.Context(), event.EmailSent, "-", "+").Result()
		if err != nil || len(sent) != 1 {
			t.Fatalf("%s has %v, %v", event.EmailSent, sent, err)
		}
		id = sent[0].Values["id"].(string)
		k.asks(web.url, "GET", "/events/{id}", "/events/"+id, "", 200)
		k.asks(web.url, "GET", "/events/{id}", "/events/01a1fd02-a1ea-7866-9979-ad82ef7f7564", "", 404)
		k.asks(web.url, "GET", "/events", "/events?ids="+id, "", 200)
		k.asks(web.url, "GET", "/events", "/events?ids=x", "", 400)
		k.asks(web.url, "GET", "/overview", "/overview?lat=40.7128&long=-74.0060&ids="+id, "", 200)
		k.asks(web.url, "GET", "/overview", "/overview", "", 400)
		k.asks(web.url, "GET", "/cities", "/cities?q=Paris,%20TX", "", 200)
		k.asks(web.url, "GET", "/cities", "/cities?q=", "", 400)
		k.asks(web.url, "GET", "/from", "/from?at=40.7128,-74.0060", "", 200)
		k.asks(web.url, "GET", "/openapi.yaml", "/openapi.yaml", "", 200)
		k.complete()
	})
	t.Run("users", func(t *testing.T) {
		k := readContract(t, "services/users/openapi.yaml")
		k.asks(users.url, "GET", "/users/{email}", "/users/ada@example.com", "", 200)
		k.asks(users.url, "GET", "/users/{email}", "/users/eve@example.com", "", 404)
		k.asks(users.url, "GET", "/users/{email}", "/users/ada@example.com?limit=0", "", 400)
		k.asks(users.url, "GET", "/submissions", "/submissions?ids="+id, "", 200)
		k.asks(users.url, "GET", "/submissions", "/submissions", "", 400)
		k.asks(users.url, "GET", "/openapi.yaml", "/openapi.yaml", "", 200)
		k.complete()
	})
	t.Run("weather", func(t *testing.T) {
		k := readContract(t, "services/weather/openapi.yaml")
		k.asks(weather.url, "GET", "/api/weather/{city}", "/api/weather/paris", "", 200)
		k.asks(weather.url, "GET", "/api/weather", "/api/weather?lat=40.7128&long=-74.0060", "", 200)
		k.asks(weather.url, "GET", "/api/weather", "/api/weather?lat=91&long=0", "", 400)
		k.asks(weather.url, "GET", "/api/places", "/api/places?q=paris", "", 200)
		k.asks(weather.url, "GET", "/api/places", "/api/places", "", 400)
		k.asks(weather.url, "GET", "/openapi.yaml", "/openapi.yaml", "", 200)
		k.complete()
	})
	t.Run("channels", func(t *testing.T) { channelsAreDescribed(t, p) })
}

// channelsAreDescribed checks the examples of asyncapi.yaml, and what is on the channels.
func channelsAreDescribed(t *testing.T, p *pipeline) {
	k := readContract(t, "pkg/event/asyncapi.yaml")
	own := map[string]any{"submission": &event.Submission{}, "result": &event.Result{}, "address": new(event.Address), "sent": &event.Sent{}}
	messages := k.doc["components"].(map[string]any)["messages"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		for _, x := range messages[name].(map[string]any)["examples"].([]any) {
			body, err := json.Marshal(x.(map[string]any)["payload"])
			stagetest.OK(t, err)
			k.valid("example of "+name, body, "components", "messages", name, "payload")
			if own[name] != nil {
				err = json.Unmarshal(body, own[name])
			}
			if v, ok := own[name].(interface{ Validate() error }); ok && err == nil {
				err = v.Validate()
			}
			if err != nil {
				t.Errorf("our own types do not take the example of %s: %s: %v", name, body, err)
			}
		}
	}
	for channel, message := range map[string]string{
		event.RawInput: "submission", event.CalculatedDistance: "result", event.UserEmail: "address", event.EmailSent: "sent", event.WeatherReport: "report",
	} {
		seen := p.rdb.Subscribe(t.Context(), channel)
		defer seen.Close()
		if _, err := seen.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer func() {
			m, err := seen.ReceiveMessage(t.Context())
			stagetest.OK(t, err)
			body := []byte(m.Payload)
			if message == "address" {
				body, _ = json.Marshal(m.Payload)
			}
			k.valid("message on "+channel, body, "components", "messages", message, "payload")
		}()
	}
	p.submit(visit{"bob@example.com", "35.6762", "139.6503"})
	p.delivered(golden.Email, "bob@example.com")
	stagetest.Eventually(t, "weather has reported on both", func() bool {
		n, err := p.rdb.XLen(t.Context(), event.WeatherReport).Result()
		return err == nil && n == 2
	})
}
