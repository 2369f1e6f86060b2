package webapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/browsertest"
	"github.com/milepost/milepost/services/internal/processtest"
)

// The page in a browser, on a pipeline whose stages do what the test says. The journey through
// the real stages is tested in services/standalone.

// TestBrowser holds all browser tests, so that they share one browser and it ends with them.
func TestBrowser(t *testing.T) {
	b := browsertest.Start(t)
	for name, test := range map[string]func(*testing.T, *browsertest.Browser){
		"in place": testInPlace, "errors": testErrors, "no script": testNoScript, "late, retried, dead": testTrouble,
		"choosing a place": testChoosing, "location": testLocation, "kept list": testKept,
		"keyboard": testKeyboard, "plain http": testPlainHTTP, "connection lost": testLost, "polling": testPolling,
		"nginx": testNginx, "cities": testCities, "tabs": testTabs, "back": testBack, "no answer": testNoAnswer, "new stage": testNewStage, "weather": testWeather,
		"looks": testLooks, "globe": testGlobe, "share": testShare, "golden": testGolden,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, b) })
	}
}

// line of stages under the test's control.
type stages struct {
	gate map[string]chan error // by stage: what becomes of the next event
}

// startStages runs stages with the names of the real ones. Each waits for the test's word on each
// event.
func startStages(t *testing.T, b *stage.Broker) stages {
	s := stages{gate: map[string]chan error{}}
	pass := func(name, in, out string, body func(id string) any) {
		gate := make(chan error)
		s.gate[name] = gate
		processtest.Stage(t, b, stage.Config{Name: name, In: in, Out: []stage.Output{{Channel: out, Unread: out == event.EmailSent}}, MaxTries: 2, Drain: time.Millisecond},
			stage.EachTo(func(ctx context.Context, e stage.Event[[]byte]) ([]stage.Message, error) {
				select {
				case err := <-gate:
					return []stage.Message{{Body: body(e.ID)}}, err
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}))
	}
	pass("distance", event.RawInput, event.CalculatedDistance, func(string) any {
		return event.Result{Email: "ada@example.com", Miles: 5679.936314229341, Lat: "40.7128", Long: "-74.0060"}
	})
	pass("db", event.CalculatedDistance, event.UserEmail, func(string) any { return event.Address("ada@example.com") })
	pass("email", event.UserEmail, event.EmailSent, func(id string) any {
		return event.Sent{ID: id, Email: "ada@example.com", Miles: 5679.936314229341, SentAt: noon}
	})
	return s
}

// all lets one event through all stages.
func (s stages) all() {
	for _, name := range []string{"distance", "db", "email"} {
		s.gate[name] <- nil
	}
}

// newPipeline is a web-api and stages.
func newPipeline(t *testing.T, settings Settings) (stages, string) {
	t.Helper()
	broker := openBroker(t, stagetest.Embedded(t).Addr)
	s := startStages(t, broker)
	base, _ := serve(t, broker, settings)
	return s, base
}

// visit opens the page of a new web-api with stages.
func visit(t *testing.T, browser *browsertest.Browser, settings Settings) (*browsertest.Tab, stages, string) {
	t.Helper()
	s, base := newPipeline(t, settings)
	tab := browser.Open(t)
	tab.Go(base)
	return tab, s, base
}

// moving opens a page for a visitor who has not asked for less motion, with its globe.
func moving(tab *browsertest.Tab, address string) {
	tab.Prefer("prefers-reduced-motion", "no-preference")
	tab.Go(address)
}

func fillIn(tab *browsertest.Tab) {
	tab.Type("#email", "ada@example.com")
	tab.Type("#lat", "40.7128")
	tab.Type("#long", "-74.0060")
}

const submitButton = "#form .primary"

func testInPlace(t *testing.T, b *browsertest.Browser) {
	tab, s, base := visit(t, b, Settings{})
	moving(tab, base)
	tab.Accessible("empty")
	tab.Eval("window.stayed = true", nil)
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".card [data-stage=web-api][data-state=done]")`)
	tab.Until(`document.activeElement.id === "notice"`)
	tab.Accessible("submitted")
	if got := tab.Text("#notice"); !strings.Contains(got, "The distance goes to ada@example.com") {
		t.Errorf("the notice says %q", got)
	}
	s.gate["distance"] <- nil
	tab.Until(`document.querySelector(".miles")?.textContent === "5,679.94 miles"`)
	tab.Until(`document.querySelector("#length").textContent === "5,679.94 miles"`)
	tab.Until(`document.querySelector("#news").textContent.includes("Measured: 5,679.94 miles")`)
	tab.Accessible("under way")
	s.gate["db"] <- nil
	s.gate["email"] <- nil
	tab.Until(`document.querySelector(".card [data-stage=email][data-state=done]")`)
	tab.Until(`[...document.querySelectorAll(".card .reports li")].every((li) => /^\d+ ms$|^\d+\.\d s$/.test(li.querySelector(".after").textContent))`)
	tab.Accessible("done")
	var stayed bool
	tab.Eval("window.stayed === true", &stayed)
	if !stayed {
		t.Error("the page was loaded anew")
	}
	if got := tab.String(`document.querySelector("#email").value`); got != "ada@example.com" {
		t.Errorf("the address for the next place is %q", got)
	}
	// Another place, with the new one-time key.
	tab.Type("#lat", "1")
	tab.Type("#long", "2")
	tab.Click(submitButton)
	tab.Until(`document.querySelectorAll(".card").length === 2`)
	s.all()
	tab.Until(`document.querySelectorAll(".cards [data-stage=email][data-state=done]").length === 2`)
	for _, host := range tab.Hosts() {
		if "http://"+host != base {
			t.Errorf("the page asked %s", host)
		}
	}
}

func testErrors(t *testing.T, b *browsertest.Browser) {
	tab, s, _ := visit(t, b, Settings{RateLimit: 1})
	tab.Type("#email", "ada")
	tab.Type("#lat", "91")
	tab.Click(submitButton)
	tab.Until(`document.activeElement.id === "notice"`)
	tab.Expect("422")
	tab.Accessible("errors")
	if got := tab.Text("#notice"); !strings.Contains(got, "Latitude must be between -90 and 90; you entered 91.") || !strings.Contains(got, "Longitude is missing.") {
		t.Errorf("the summary says %q", got)
	}
	tab.Click(`#notice a[href="#long"]`)
	tab.Until(`document.activeElement.id === "long"`)
	if got := tab.String(`["email", "lat", "long"].map((id) => {
		const field = document.getElementById(id);
		return field.getAttribute("aria-invalid") + " " + field.getAttribute("aria-describedby").split(" ").every((d) => document.getElementById(d)) + " " + field.value;
	}).join()`); got != "true true ada,true true 91,true true " {
		t.Errorf("the fields are %q", got)
	}
	// Corrected, it goes through.
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".note.good")`)
	s.all()
	tab.Until(`document.querySelector(".cards [data-stage=email][data-state=done]")`)
	// Too many: what was typed stays.
	tab.Type("#lat", "1")
	tab.Type("#long", "2")
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".note.bad")?.innerText.includes("Too many submissions for your network")`)
	tab.Expect("429")
	if got := tab.String(`["email", "lat", "long"].map((id) => document.getElementById(id).value).join()`); got != "ada@example.com,1,2" {
		t.Errorf("the fields are %q", got)
	}
	tab.Accessible("limited")
}

func testNoScript(t *testing.T, b *browsertest.Browser) {
	s, base := newPipeline(t, Settings{})
	tab := b.Open(t)
	tab.NoScript()
	tab.Go(base)
	tab.ClickThrough(`#samples button`)
	if got := tab.String(`document.querySelector("#lat").value + " " + document.querySelector("#long").value`); got != "40.7128 -74.0060" {
		t.Errorf("the sample filled in %q", got)
	}
	tab.ClickThrough(submitButton)
	tab.Expect("422")
	if got := tab.Text("#notice"); !strings.Contains(got, "Email address is missing.") {
		t.Errorf("the summary says %q", got)
	}
	tab.Type("#email", "ada@example.com")
	tab.ClickThrough(submitButton)
	if got := tab.Text("#notice") + tab.Text("#length"); !strings.Contains(got, "The distance goes to ada@example.com") || !strings.Contains(got, "5,679.94 miles") {
		t.Errorf("the page says %q", got)
	}
	if got := tab.String(`document.querySelector("#line").getAttribute("d")`); !strings.HasPrefix(got, "M349 -321") {
		t.Errorf("the line is %q", got)
	}
	tab.Accessible("submitted, no script")
	first := tab.String(`document.querySelector(".card").dataset.id`)
	tab.Reload() // posts again, with the same one-time key
	if got := tab.String(`document.querySelector(".card").dataset.id`); got != first {
		t.Errorf("after a reload the event is %s; want %s", got, first)
	}
	tab.ClickThrough("#notice a")
	s.gate["distance"] <- nil
	for !strings.Contains(tab.Text("#length"), "5,679.94 miles") {
		tab.ClickThrough("#reload")
	}
	tab.Accessible("event, no script")
	s.gate["db"] <- nil
	s.gate["email"] <- nil
	for !strings.Contains(tab.String(`document.querySelector("[data-stage=email]").dataset.state`), "done") {
		tab.ClickThrough("#reload")
	}
}

func testTrouble(t *testing.T, b *browsertest.Browser) {
	tab, s, base := visit(t, b, Settings{})
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".late:not([hidden])")?.innerText.startsWith("Still waiting for the distance.")`)
	tab.Accessible("late")
	s.gate["distance"] <- errors.New("no such luck")
	tab.Until(`document.querySelector(".cards [data-stage=distance][data-state=retry]")?.innerText.includes("failed, will be tried again")`)
	tab.Accessible("retry")
	s.gate["distance"] <- stage.Permanent(errors.New("beyond repair"))
	tab.Until(`document.querySelector(".dead:not([hidden])")`)
	tab.Accessible("dead")
	id := tab.String(`document.querySelector(".card").dataset.id`)
	// Its own page says the same, and follows what an operator does about it.
	tab.Go(base + "/events/" + id)
	tab.Until(`document.querySelector(".dead:not([hidden])") && document.querySelector("#from").textContent === "40.7128, -74.0060"`)
	tab.Accessible("event, dead")
	other := b.Open(t)
	other.Go(base + "/events/" + id)
	other.Until(`document.querySelector(".dead:not([hidden])")`)
	if text := other.String("document.documentElement.outerHTML"); strings.Contains(text, "40.7128") || strings.Contains(text, "ada@") {
		t.Errorf("the event's page tells more than it may: %s", text)
	}
}

func testChoosing(t *testing.T, b *browsertest.Browser) {
	tab, _, base := visit(t, b, Settings{})
	moving(tab, base)
	chosen := func(want string) {
		t.Helper()
		tab.Until(fmt.Sprintf(`[lat.value, long.value, document.getElementById("place").getAttribute("visibility")].join(" ") === %q`, want))
	}
	tab.Click("#samples button:nth-of-type(2)")
	chosen("35.6762 139.6503 visible")
	tab.Click("#view")
	tab.Eval(`document.querySelector("#map").setAttribute("viewBox", "-1800 -900 3600 1800")`, nil)
	// The middle of the map is where equator and prime meridian cross; a pixel is half a degree.
	tab.Click("#map")
	tab.Until(`Math.max(Math.abs(lat.value), Math.abs(long.value)) < 0.5 && document.getElementById("spot").getAttribute("d") !== "M1397 -357h0"`)
	tab.Type("#lat", "")
	tab.Type("#long", "")
	chosen("  hidden")
	tab.Eval(`(() => {
		document.querySelector("#lat").value = "40.7128, -74.0060";
		document.querySelector("#lat").dispatchEvent(new InputEvent("input", {inputType: "insertFromPaste", bubbles: true}));
	})()`, nil)
	chosen("40.7128 -74.0060 visible")
	tab.Type("#long", "")
	tab.Type("#lat", "33,8688° S; 151,2093° E\t")
	chosen("-33.8688 151.2093 visible")
	// What is shown is what the page to share shows.
	want := siteOn(t, &fake{}, Settings{}).mapOf(typed{Lat: "-32", Long: "-160"})
	tab.Type("#lat", "-32")
	tab.Type("#long", "-160")
	tab.Until(fmt.Sprintf(`document.getElementById("length").textContent === "%s miles" && also.textContent === "%s kilometres"`, want.Miles, want.Km))
	if got := tab.String(`[line.getAttribute("d"), map.getAttribute("viewBox"), new URL(share.href).pathname + new URL(share.href).search].join(" ")`); got != want.Line+" "+want.View+" "+string(want.Share) {
		t.Errorf("the page shows %s; want %+v", got, want)
	}
	tab.Accessible("place chosen")
}

// testGlobe turns the globe by keyboard and by mouse, and changes what is remembered.
func testGlobe(t *testing.T, b *browsertest.Browser) {
	tab, _, base := visit(t, b, Settings{})
	moving(tab, base)
	still := func() { tab.Until(`document.querySelector("#globe[data-still]")`) }
	painted := func(x, y int) bool {
		var alpha int
		tab.Eval(fmt.Sprintf(`globe.getContext("2d").getImageData(globe.width * %d / 100, globe.height * %d / 100, 1, 1).data[3]`, x, y), &alpha)
		return alpha == 255
	}
	still()
	if !painted(50, 50) || painted(2, 2) {
		t.Error("the globe is no disc")
	}
	tab.Expect("willReadFrequently")
	tab.Eval(`globe.focus()`, nil)
	for _, key := range []string{"ArrowRight", "ArrowUp", "+"} {
		tab.Eval(fmt.Sprintf(`globe.dispatchEvent(new KeyboardEvent("keydown", {key: %q, bubbles: true, cancelable: true}))`, key), nil)
		still()
	}
	tab.Keys("\r")
	tab.Until(`document.querySelector("#lat").value === "32.08" && document.querySelector("#long").value === "26.86"`)
	tab.Accessible("chosen by keyboard")
	still()
	tab.Click("#globe") // turned to the middle of the way and leaning a little
	tab.Until(`document.querySelector("#long").value !== "26.86" && Math.abs(document.querySelector("#long").value - 30.9) < 1`)
	tab.Click("#samples button")
	still()
	tab.Until(`document.querySelector("#globe").ariaLabel.startsWith("Globe with Velocity, New York and the shortest way")`)
	tab.Click("#units")
	tab.Until(`document.querySelector("#length").textContent === "9,140.97 kilometres"`)
	tab.Click("#view")
	tab.Go(base + "/?at=40.7128,-74.0060,New+York")
	tab.Until(`document.querySelector("#length").textContent === "9,140.97 kilometres" && !document.querySelector("#globe")`)
	tab.Size(375, 667)
	tab.Eval(`document.querySelector("#email").scrollIntoView()`, nil)
	tab.Until(`document.querySelector(".bar:not([hidden])")?.innerText === "9,140.97 kilometres from New York"`)
	calm := b.Open(t)
	calm.Go(base)
	calm.Until(`document.documentElement.classList.contains("js") && document.querySelector("#view") && !document.querySelector("#globe")`)
}

// testShare: a link to share shows map and distance, and an event's page shows the line of all
// places at its distance, but neither tells an address.
func testShare(t *testing.T, b *browsertest.Browser) {
	tab, s, base := visit(t, b, Settings{})
	moving(tab, base)
	tab.Click("#samples button")
	tab.Type("#email", "ada@example.com")
	tab.Click(submitButton)
	s.all()
	tab.Until(`document.querySelector("#now .status")?.textContent.startsWith("Emailed in ")`)
	link, event := tab.String("share.href"), tab.String(`document.querySelector("#now a").href`)
	other := b.Open(t)
	other.NoScript()
	other.Go(link)
	if got := other.Text("h1") + ": " + other.Text("#length"); got != "From New York to Velocity: 5,679.94 miles" || strings.Contains(other.Text("body"), "ada@") {
		t.Errorf("%s shows %q in %s", link, got, other.Text("body"))
	}
	other.Accessible("shared, no script")
	other.Go(event)
	if got := other.String(`document.querySelector("#line").getAttribute("d")`); strings.Count(got, "L") < 100 {
		t.Errorf("the line of all places at the distance is %q", got)
	}
	other.Accessible("event of another visitor, no script")
	third := b.Open(t)
	for _, address := range []string{link, event} {
		moving(third, address)
		third.Until(`document.querySelector("#globe[data-still]")`)
		third.Accessible(address)
		third.NoOverflow(address)
	}
	third.Go(base + "/from?at=nowhere")
	third.Expect("404")
	third.Accessible("a link without a place")
}

// testGolden holds the pages' looks to pictures that a person has looked at.
func testGolden(t *testing.T, b *browsertest.Browser) {
	tab, s, base := visit(t, b, Settings{})
	moving(tab, base)
	tab.Click("#samples button")
	tab.Type("#email", "ada@example.com")
	tab.Click(submitButton)
	s.all()
	tab.Until(`document.querySelector("#now .status")?.textContent.startsWith("Emailed in ") && document.querySelector("#globe[data-still]")`)
	tab.Eval(`document.activeElement.blur()`, nil)
	for _, look := range []struct {
		name, scheme string
		width        int64
	}{{"page", "light", 1280}, {"page-dark-phone", "dark", 375}} {
		tab.Prefer("prefers-color-scheme", look.scheme)
		tab.Size(look.width, 900)
		tab.Looks("testdata/looks/"+look.name+".png", *update)
	}
	plain := b.Open(t)
	plain.NoScript()
	plain.Size(768, 900)
	for name, path := range map[string]string{"empty": "/", "shared": "/from?at=48.8566,2.3522,Paris", "lost": "/nowhere"} {
		plain.Go(base + path)
		plain.Looks("testdata/looks/"+name+".png", *update)
	}
	plain.Expect("404")
}

func testLocation(t *testing.T, b *browsertest.Browser) {
	base, _ := serve(t, openBroker(t, stagetest.Embedded(t).Addr), Settings{})
	tab := b.Open(t)
	tab.Locate(base, true, 35.6762, 139.6503)
	tab.Go(base)
	tab.Click("#locate")
	tab.Until(`document.querySelector("#lat").value === "35.6762" && document.querySelector("#long").value === "139.6503"`)
	tab.Accessible("location")
	denied := b.Open(t)
	denied.Locate(base, false, 0, 0)
	denied.Go(base)
	denied.Until(`!document.querySelector("#locate").hidden`)
	if got := denied.Text("#locate-note"); got != "" {
		t.Errorf("before anybody asked, the page says %q", got)
	}
	denied.Click("#locate")
	denied.Until(`document.querySelector("#locate-note").innerText.includes("block your location")`)
}

func testKept(t *testing.T, b *browsertest.Browser) {
	tab, s, base := visit(t, b, Settings{})
	fillIn(tab)
	tab.Click(submitButton)
	s.gate["distance"] <- nil
	tab.Until(`document.querySelector(".miles")?.textContent`)
	tab.Go(base) // a new page knows it, and goes on following
	tab.Until(`document.querySelector(".card .place").textContent === "40.7128, -74.0060"`)
	s.gate["db"] <- nil
	s.gate["email"] <- nil
	tab.Until(`document.querySelector(".cards [data-stage=email][data-state=done]")`)
	tab.Go(base)
	tab.Until(`document.querySelector(".cards [data-stage=email][data-state=done]")`)
	if got := tab.String("JSON.stringify(localStorage)"); strings.Contains(got, "ada@") {
		t.Errorf("the browser keeps the address: %s", got)
	}
	other := b.Open(t) // another visitor sees nothing of it
	other.Go(base)
	other.Until(`document.documentElement.classList.contains("js") && document.querySelector("#submissions").hidden`)
	tab.Click("#forget")
	tab.Until(`document.querySelector("#submissions").hidden`)
	tab.Go(base)
	tab.Until(`document.documentElement.classList.contains("js") && document.querySelector("#submissions").hidden`)
	// What an unknown event leads to, and rubbish in the storage.
	tab.Eval(fmt.Sprintf(`localStorage.setItem("milepost.submissions", JSON.stringify([7, null, {id: %q, lat: "<b>1", long: "2", at: Date.now() - 7200e3, state: "", steps: []}]))`, someID), nil)
	tab.Go(base)
	tab.Until(`document.querySelector(".late:not([hidden])")?.innerText.startsWith("The server has no progress")`)
	if got := tab.Text("#cards .place"); got != "<b>1, 2" {
		t.Errorf("the card is named %q", got)
	}
	tab.Accessible("unknown")
}

// testKeyboard goes the whole way without a mouse.
func testKeyboard(t *testing.T, b *browsertest.Browser) {
	tab, s, base := visit(t, b, Settings{})
	moving(tab, base)
	tab.Keys("\t")
	if got := tab.Text(":focus"); got != "Skip to the content" {
		t.Errorf("the first stop is %q", got)
	}
	tab.Keys("\r") // follows it
	tab.Until(`document.activeElement.id === "main"`)
	var stops []string
	for range 17 {
		tab.Keys("\t")
		stops = append(stops, tab.String(`document.activeElement.id || document.activeElement.innerText`))
		var seen bool
		tab.Eval(`getComputedStyle(document.activeElement).outlineStyle !== "none" && document.activeElement.getBoundingClientRect().width > 0`, &seen)
		if !seen && len(stops) < 15 {
			t.Errorf("the focus on %s cannot be seen", stops[len(stops)-1])
		}
	}
	want := "globe view city Find New York Tokyo Sydney Reykjavík Nairobi North Pole locate lat long email Send me the distance Natural Earth"
	if got := strings.Join(stops, " "); !strings.HasPrefix(got, want) {
		t.Errorf("the tab key goes through %q; want %q first", got, want)
	}
	tab.Eval(`document.querySelector("#lat").focus()`, nil)
	tab.Keys("40.7128\t-74.0060\tada@example.com\r")
	tab.Until(`document.querySelector(".note.good")`)
	s.all()
	tab.Until(`document.querySelector(".cards [data-stage=email][data-state=done]")`)
}

// testPlainHTTP: on plain HTTP with a name, browsers send no Sec-Fetch-Site; posts of our own
// page are still ours. TestSameSite has those of other sites' pages.
func testPlainHTTP(t *testing.T, b *browsertest.Browser) {
	o := stagetest.Embedded(t)
	base, _ := serve(t, openBroker(t, o.Addr), Settings{})
	named := strings.Replace(base, "127.0.0.1", "milepost.test", 1)
	for _, scripts := range []bool{true, false} {
		tab := b.Open(t)
		if !scripts {
			tab.NoScript()
		}
		tab.Go(named)
		if scripts {
			tab.Until(`document.querySelector("#locate-note").innerText.includes("https")`)
			tab.Accessible("plain http")
		}
		fillIn(tab)
		if scripts {
			tab.Click(submitButton)
		} else {
			tab.ClickThrough(submitButton)
		}
		tab.Until(`document.querySelector(".note.good")`)
		tab.Expect("Cross-Origin-Opener-Policy header has been ignored") // it says so on every plain HTTP page
	}
	if got := entries(t, o.Addr); len(got) != 2 {
		t.Errorf("raw_input holds %q; want two", got)
	}
}

// testLost: progress goes on by itself after the connection was away.
func testLost(t *testing.T, b *browsertest.Browser) {
	tab, s, _ := visit(t, b, Settings{})
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".cards [data-stage=web-api][data-state=done]")`)
	tab.Type("#lat", "1")
	tab.Offline(true)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".note.bad")?.innerText.includes("could not be reached")`)
	if got := tab.String(`document.querySelector("#lat").value`); got != "1" {
		t.Errorf("the latitude is %q; want what was typed", got)
	}
	tab.Accessible("offline")
	s.gate["distance"] <- nil
	tab.Offline(false)
	tab.Until(`document.querySelector(".miles")?.textContent === "5,679.94 miles"`)
	tab.Expect("ERR_INTERNET_DISCONNECTED")
}

// testPolling: where no stream is to be had, the page asks again and again.
func testPolling(t *testing.T, b *browsertest.Browser) {
	s, base := newPipeline(t, Settings{StreamLimit: 1})
	openStream(t, base+"/events?ids="+someID) // the only one
	tab := b.Open(t)
	tab.Go(base)
	fillIn(tab)
	tab.Click(submitButton)
	s.all()
	tab.Until(`document.querySelector(".cards [data-stage=email][data-state=done]")`)
	tab.Expect("429")
	tab.Expect("text/event-stream")
}

// testTabs: with an unfinished event, seven tabs of a visitor share one stream; a browser has six
// connections to a site. If the tab that has it is hidden, another one takes it over.
func testTabs(t *testing.T, b *browsertest.Browser) {
	s, base := newPipeline(t, Settings{StreamLimit: 2}) // one that closes, one that opens
	tabs := []*browsertest.Tab{b.Open(t)}
	for range 6 {
		tabs = append(tabs, tabs[0].Another())
	}
	for i, tab := range tabs {
		tab.Go(base)
		if i == 0 {
			fillIn(tab)
			tab.Click(submitButton)
		}
		tab.Until(`document.querySelector(".cards .card [data-stage=web-api][data-state=done]")`)
	}
	s.gate["distance"] <- nil
	for _, tab := range tabs {
		tab.Until(`document.querySelector(".cards .card [data-stage=distance][data-state=done]")`)
	}
	tabs[0].Hide(true)
	s.gate["db"] <- nil
	for _, tab := range tabs {
		tab.Until(`document.querySelector(".cards .card [data-stage=db][data-state=done]")`)
	}
	for _, tab := range tabs[1:] {
		tab.Hide(true)
	}
	s.gate["email"] <- nil
	tabs[3].Hide(false)
	tabs[3].Until(`document.querySelector(".cards .card [data-stage=email][data-state=done]")`)
	tabs[0].Hide(false)
	tabs[0].Until(`document.querySelector(".cards .card [data-stage=email][data-state=done]")`)
	fillIn(tabs[0])
	tabs[0].Click(submitButton)
	tabs[0].Until(`document.querySelectorAll(".cards .card").length === 2`)
}

// testBack: what was typed is there after Back, with and without scripts.
func testBack(t *testing.T, b *browsertest.Browser) {
	base, _ := serve(t, openBroker(t, stagetest.Embedded(t).Addr), Settings{})
	for _, scripts := range []bool{true, false} {
		tab := b.Open(t)
		if !scripts {
			tab.NoScript()
		}
		tab.Go(base)
		fillIn(tab)
		if scripts {
			tab.Go(base + "/events/" + someID)
			tab.Expect("404")
		} else {
			tab.ClickThrough(submitButton)
		}
		tab.Back()
		tab.Until(`location.pathname === "/" && document.querySelector("#lat")?.value`)
		if got := tab.String(`["email", "lat", "long"].map((id) => document.getElementById(id).value).join()`); got != "ada@example.com,40.7128,-74.0060" {
			t.Errorf("scripts %v: after Back the fields are %q", scripts, got)
		}
		if scripts {
			tab.Until(`document.querySelector("#line").getAttribute("d") !== ""`)
		}
	}
}

// testNoAnswer: a submission that gets no answer ends, and says so; what was typed stays.
func testNoAnswer(t *testing.T, b *browsertest.Browser) {
	tab, _, _ := visit(t, b, Settings{})
	tab.Eval(`(() => {
		const after = AbortSignal.timeout.bind(AbortSignal);
		AbortSignal.timeout = (ms) => after(ms / 100);
		window.fetch = (address, {signal}) => new Promise((answer, fail) => signal.addEventListener("abort", () => fail(signal.reason)));
	})()`, nil)
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".note.bad")?.innerText.includes("did not answer within 15 seconds. Try again")`)
	if got := tab.String(`lat.value + " " + form.getAttribute("aria-busy")`); got != "40.7128 null" {
		t.Errorf("the form is %q", got)
	}
}

// testNewStage: a stage that nobody here has heard of shows up as soon as it reports.
func testNewStage(t *testing.T, b *browsertest.Browser) {
	o := stagetest.Embedded(t)
	broker := openBroker(t, o.Addr)
	base, _ := serve(t, broker, Settings{})
	processtest.Stage(t, broker, stage.Config{Name: "tide", In: event.RawInput, Out: []stage.Output{{Channel: "tides", Unread: true}}, Optional: true},
		stage.Each(func(context.Context, stage.Event[event.Submission]) (tide, error) { return tide{}, nil }))
	tab := b.Open(t)
	tab.Go(base)
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".card [data-report=tide]")?.textContent.includes("metres 1.5")`)
	tab.Accessible("a new stage")
}

// tide is the output of a stage nobody knows.
type tide struct{}

func (tide) Progress() any { return map[string]any{"metres": 1.5} }

// testLooks: light and dark, wide and 360 pixels, each with axe's eye on contrast.
func testLooks(t *testing.T, b *browsertest.Browser) {
	tab, s, base := visit(t, b, Settings{})
	fillIn(tab)
	tab.Click(submitButton)
	s.gate["distance"] <- nil
	tab.Until(`document.querySelector(".miles")?.textContent`)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1200, 360} {
			name := fmt.Sprintf("%s, %d pixels", scheme, width)
			tab.Prefer("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
			tab.Size(width, 900)
			tab.Accessible(name)
			tab.NoOverflow(name)
			if got := tab.String(`getComputedStyle(document.querySelector(".waiting"), "::before").animationName`); got != "none" {
				t.Errorf("%s: %s moves although less motion is preferred", name, got)
			}
			tab.Picture(fmt.Sprintf("%s-%d", scheme, width))
		}
	}
	tab.Type("#lat", "north")
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".note.bad")`)
	tab.Expect("422")
	tab.Accessible("errors, dark, 360 pixels")
	tab.NoOverflow("errors")
	tab.Go(base + "/events/" + tab.String(`document.querySelector(".card").dataset.id`))
	tab.Until(`document.querySelector("#length").textContent !== ""`)
	tab.Accessible("event, dark, 360 pixels")
	tab.NoOverflow("event")
	tab.Go(base + "/nowhere")
	tab.Expect("404")
	tab.Accessible("no such page")
}
