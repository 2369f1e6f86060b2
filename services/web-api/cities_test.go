package webapi

import (
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/browsertest"
)

// TestCities: the matches of a city as JSON and in the page, and what a visitor is told without
// any.
func TestCities(t *testing.T) {
	o := startOther(t)
	h := overviewSite(t, Reads{WeatherURL: config.HTTPURL(o.URL)}).handler()
	ask := func(path, accept string) (int, string) {
		r := httptest.NewRequest("GET", "http://localhost"+path, nil)
		r.Header.Set("Accept", accept)
		w := do(h, r)
		return w.Code, html.UnescapeString(w.Body.String())
	}
	const texas = `{"label":"Paris, Texas, United States","at":"33.66094,-95.55551,Paris, Texas, United States"}`
	if status, got := ask("/cities?q=Par", typeJSON); status != 200 || !strings.HasSuffix(strings.TrimSpace(got), ","+texas+"]}") {
		t.Errorf("GET /cities = %d %s", status, got)
	}
	if status, got := ask("/cities?q=Atlantis", typeJSON); status != 200 || strings.TrimSpace(got) != `{"cities":[]}` {
		t.Errorf("GET /cities of none = %d %s", status, got)
	}
	for city, want := range map[string]string{
		"Paris": `value="33.66094,-95.55551,Paris, Texas, United States">Paris, Texas, United States</button>`, "Atlantis": "No city of that name is known.", "": `role="status"></p>`,
	} {
		if status, got := ask("/?city="+city, typeHTML); status != 200 || !strings.Contains(got, want) {
			t.Errorf("GET /?city=%s = %d %s; want %s", city, status, got, want)
		}
	}
	for status, want := range map[int]string{400: "1 to 100 letters", 502: "cannot be looked up right now", 503: "not looked up here"} {
		o.do(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if code, got := ask("/cities?q=Paris", typeJSON); code < 400 || !strings.Contains(got, want) {
			t.Errorf("after %d of weather: %d %s; want %q", status, code, got, want)
		}
		if code, got := ask("/?city=Paris", typeHTML); code != 200 || !strings.Contains(got, want) {
			t.Errorf("after %d of weather, the page: %d; want 200 with %q", status, code, want)
		}
	}
}

// testCities types a city and chooses a match, which keeps its name, with and without scripts.
func testCities(t *testing.T, b *browsertest.Browser) {
	other := startOther(t)
	base, _ := serve(t, openBroker(t, stagetest.Embedded(t).Addr), Settings{}, Reads{WeatherURL: config.HTTPURL(other.URL)})
	const name = "Paris, Texas, United States"
	tab := b.Open(t)
	tab.Go(base)
	tab.Type("#city", "Atl")
	tab.Until(`document.querySelector("#city-note").innerText === "No city of that name is known."`)
	tab.Type("#city", "Par")
	tab.Until(`document.querySelectorAll("#matches button").length === 2`)
	tab.Accessible("cities")
	tab.Picture("cities")
	tab.NoOverflow("cities")
	tab.Click("#matches button:nth-of-type(2)")
	tab.Until(`lat.value === "33.66094" && long.value === "-95.55551"`)
	tab.Type("#email", "ada@example.com")
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".card .place")?.innerText.includes("` + name + `")`)
	tab.Go(base) // the history keeps it
	tab.Until(`document.querySelector(".card .place")?.innerText.includes("` + name + `")`)

	plain := b.Open(t)
	plain.NoScript()
	plain.Go(base)
	plain.Type("#city", "Paris")
	plain.ClickThrough("#search .find button")
	plain.Accessible("cities, no script")
	plain.ClickThrough("#matches button:nth-of-type(2)")
	plain.Type("#email", "ada@example.com")
	plain.ClickThrough(submitButton)
	if got := plain.Text(".card .place"); !strings.Contains(got, name) {
		t.Errorf("without scripts the card says %q", got)
	}
}
