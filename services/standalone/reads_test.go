package standalone_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/milepost/milepost/services/weather/openmeteo"
)

// getJSON reads an answer, whatever its status.
func getJSON(t *testing.T, address string, answer any) int {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		t.Fatalf("GET %s answered %q: %v", address, body, err)
	}
	return resp.StatusCode
}

// A submission shows in the overview with its distance and the weather at its place, and in its
// user's history, at once after each. Without its provider the weather is missing with the
// reason, and all else works.
func TestReads(t *testing.T) {
	provider, err := openmeteo.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	env := environment(t, t.TempDir())
	env["WEATHER_PROVIDER_URL"], env["GEOCODING_URL"] = provider.URL, provider.URL
	r := start(t, env)
	var usersAt, weatherAt string
	r.until("stdout says where users and weather are", func() bool {
		u := regexp.MustCompile(`Users          (http://\S+)/users/ADDRESS`).FindStringSubmatch(r.stdout.String())
		w := regexp.MustCompile(`Weather        (http://\S+)/api/weather/CITY`).FindStringSubmatch(r.stdout.String())
		if u == nil || w == nil {
			return false
		}
		usersAt, weatherAt = u[1], w[1]
		return true
	})
	page := "http://" + env["LISTEN"]
	submit := func(lat, long string) string { return submitForm(t, page, lat, long) }
	type overview struct {
		Submissions []struct {
			ID    string
			Miles float64 `json:"distance_from_velocity"`
		}
		Weather *struct{ Temperature float64 }
		Missing []struct{ What, Why string }
	}
	id := submit("40.7128", "-74.0060")
	r.until("the overview has the distance and the weather", func() bool {
		var o overview
		getJSON(t, page+"/overview?ids="+id+"&lat=40.7128&long=-74.0060", &o)
		return len(o.Missing) == 0 && len(o.Submissions) == 1 && o.Submissions[0].ID == id && o.Submissions[0].Miles > 5679 &&
			o.Weather != nil && o.Weather.Temperature > 8 && o.Weather.Temperature < 10
	})
	r.until("the weather is a step of its progress", func() bool {
		var e struct {
			Steps []struct {
				Stage  string
				Detail map[string]any
			}
		}
		getJSON(t, page+"/events/"+id, &e)
		for _, s := range e.Steps {
			if s.Stage == "weather" && strings.HasSuffix(s.Detail["temperature"].(string), " °C") {
				return true
			}
		}
		return false
	})
	var city struct {
		City, Source string
		Temperature  float64
	}
	if status := getJSON(t, weatherAt+"/api/weather/paris", &city); status != 200 || city.City != "Paris" || city.Source != "open-meteo" {
		t.Errorf("GET /api/weather/paris = %d %+v", status, city)
	}
	history := func() int {
		var p struct {
			User        struct{ Submissions int }
			Submissions []struct{ ID string }
		}
		getJSON(t, usersAt+"/users/ada@example.com", &p)
		if len(p.Submissions) != p.User.Submissions {
			t.Errorf("%d submissions in a history of %d", len(p.Submissions), p.User.Submissions)
		}
		return p.User.Submissions
	}
	r.until("the user has one submission", func() bool { return history() == 1 })
	provider.Close()
	second := submit("-33.8688", "151.2093")
	r.until("the user has two, though the first answer was cached", func() bool { return history() == 2 })
	var o overview
	getJSON(t, page+"/overview?ids="+id+","+second+"&lat=-33.8688&long=151.2093", &o)
	if len(o.Submissions) != 2 || o.Weather != nil || len(o.Missing) != 1 || o.Missing[0].What != "weather" || !strings.Contains(o.Missing[0].Why, "provider") {
		t.Errorf("the overview without a provider: %+v; want both submissions and why there is no weather", o)
	}
	r.stop()
}

// submitForm submits a place as a form does, with progress, and returns the event ID.
func submitForm(t *testing.T, page, lat, long string) string {
	t.Helper()
	resp, err := http.PostForm(page+"/distance", url.Values{"email": {"ada@example.com"}, "lat": {lat}, "long": {long}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("POST /distance = %d", resp.StatusCode)
	}
	return strings.TrimPrefix(resp.Header.Get("Location"), "/events/")
}
