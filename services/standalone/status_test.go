package standalone_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/internal/browsertest"
	"github.com/milepost/milepost/services/internal/processtest"
)

// TestStatusPage is what a person on call sees in a browser: the pipeline live, a new stage by
// itself, what was set aside, on a wide window and on a phone, with scripts and without, and an
// outage.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	browser := browsertest.Start(t)
	env := environment(t, t.TempDir())
	env["STATUS_ACTIONS"], env["RATE_LIMIT"], env["ADDRESS_LIMIT"] = "on", "off", "off"
	r := start(t, env)
	tab := browser.Open(t)
	tab.Go("http://" + env["ADMIN_LISTEN"] + "/")
	tab.Until(`document.title.startsWith("All well")`) // adoption takes a moment
	tab.Accessible("all well")
	before := tab.String(`document.querySelector("time").dateTime`)

	// It is live: a second later, without a click.
	tab.Until(`document.querySelector("time").dateTime > "` + before + `"`)
	r.post("ada@example.com", "40.7128", "-74.0060")
	tab.Until(`[...document.querySelectorAll(".publishers b")].some((n) => n.textContent === "web-api")`)
	tab.Until(`document.querySelector(".picture .live")`)
	tab.Until(`document.querySelector('#stages [data-stage="email"] [data-name=Rate]').textContent !== "0/s"`)

	// A selection in what does not change stays while the rest does.
	b := processtest.Broker(t, &redis.Options{Addr: env["EMBEDDED_REDIS"]})
	p := b.Publisher("import", event.RawInput)
	t.Cleanup(func() { p.Close() })
	receipt, err := p.Publish(t.Context(), stage.Submission{Body: []byte(`{"email":"ada@example.com","lat":"91","long":"0"}`)})
	if err != nil {
		t.Fatal(err)
	}
	tab.Until(`document.querySelectorAll('#dead [data-event="` + receipt.ID + `"]').length === 2`) // distance's and weather's
	tab.Eval(`getSelection().selectAllChildren(document.querySelector("#dead .command"))`, nil)
	command := tab.String(`String(getSelection())`)
	seen := tab.String(`document.querySelector("time").dateTime`)
	tab.Until(`document.querySelector("time").dateTime > "` + seen + `"`)
	if kept := tab.String(`String(getSelection())`); kept != command || !strings.HasPrefix(command, "milepostctl --redis redis://"+env["EMBEDDED_REDIS"]+" dead replay raw_input ") {
		t.Errorf("the selected command is %q, and a second later %q", command, kept)
	}

	tab.Eval(`getSelection().removeAllRanges()`, nil)
	tab.Until(`document.querySelectorAll('#stages [data-stage="email"] .spark path').length === 2`)
	tab.Click("#dead .copy")
	tab.Until(`document.getElementById("live").textContent === "Copied."`)
	tab.Prefer("prefers-color-scheme", "light", "prefers-reduced-motion", "reduce")
	tab.Size(1280, 1120)
	if os.Getenv("SCREENSHOTS") != "" { // README's picture has lines to look at
		for range 100 {
			r.post("ada@example.com", "40.7128", "-74.0060")
			time.Sleep(200 * time.Millisecond)
		}
	}
	tab.Until(`document.getElementById("live").textContent === ""`)
	tab.Window("status")

	// A new stage appears by itself, and says so when it is gone.
	newStage(t, tab, b)

	tab.Accessible("trouble")
	tab.NoOverflow("trouble")
	noOverlap(t, tab)
	statusOnPhone(t, tab)
	if text := tab.Text("body"); strings.Contains(text, "@") {
		t.Errorf("the page shows an address:\n%s", text)
	}
	if hosts := tab.Hosts(); len(hosts) != 1 || hosts[0] != env["ADMIN_LISTEN"] {
		t.Errorf("the page asked %q; want %s alone", hosts, env["ADMIN_LISTEN"])
	}

	statusWithoutScript(t, browser, env, command)
	statusActions(t, tab)
	statusIsNotPublic(t, env)
	if !strings.Contains(r.stdout.String(), "http://"+env["ADMIN_LISTEN"]+"/") {
		t.Errorf("the program does not tell where its status is: %s", r.stdout.String())
	}

	r.stop()
	tab.Until(`document.getElementById("live").textContent.startsWith("No answer")`)
	tab.Expect("ERR_CONNECTION_REFUSED")
}

func statusOnPhone(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	tab.Prefer("prefers-color-scheme", "dark", "prefers-reduced-motion", "reduce")
	tab.Accessible("trouble, dark")
	tab.Size(360, 800)
	tab.Until(flows("y"))
	tab.Accessible("trouble on a phone")
	tab.NoOverflow("trouble on a phone")
	noOverlap(t, tab)
	tab.Picture("status-dark-360")
	if got := tab.String(`[...document.querySelectorAll("main *")].filter((n) => n.tagName !== "THEAD" && n.scrollWidth > n.clientWidth + 1 && getComputedStyle(n).overflowX !== "visible").map((n) => n.className || n.tagName).join()`); got != "" {
		t.Errorf("on a phone these are clipped: %s", got)
	}
}

func newStage(t *testing.T, tab *browsertest.Tab, b *stage.Broker) {
	t.Helper()
	stop := processtest.Stage(t, b, stage.Config{Name: "tide", In: event.RawInput, Out: []stage.Output{{Channel: "tides", Unread: true}}, Optional: true},
		stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) { return e.ID, nil }))
	tab.Until(`document.querySelector('#stages [data-stage="tide"] .running')`)
	tab.Until(`[...document.querySelectorAll(".pill b")].some((n) => n.textContent === "tides")`)
	stop()
	tab.Until(`document.querySelector('#stages [data-stage="tide"] .stopped')`)
	tab.Until(flows("x"))
}

// statusActions drops a dead letter and replays the other, each after a question.
func statusActions(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	entry := tab.String(`document.querySelector("#dead .danger").search`)
	tab.ClickThrough("#dead .danger")
	tab.Accessible("asks before it drops")
	tab.NoOverflow("asks before it drops")
	tab.ClickThrough("button.danger")
	tab.Until(`location.pathname === "/status" && document.querySelectorAll("#dead .card").length === 1`)
	tab.ClickThrough("#dead .button")
	tab.ClickThrough("button.primary")
	// Its cause is not fixed, so it comes back as another dead letter.
	tab.Until(`document.querySelectorAll("#dead .card").length === 1 && ![...document.querySelectorAll("#dead .button")].some((a) => a.search === "` + entry + `")`)
}

func statusWithoutScript(t *testing.T, browser *browsertest.Browser, env map[string]string, command string) {
	t.Helper()
	plain := browser.Open(t)
	plain.NoScript()
	plain.Go("http://" + env["ADMIN_LISTEN"] + "/status")
	if got := plain.Text("#dead .command"); got != command {
		t.Errorf("without scripts the command is %q; want %q", got, command)
	}
	plain.Accessible("without scripts")
	plain.ClickThrough("#again")
}

func statusIsNotPublic(t *testing.T, env map[string]string) {
	t.Helper()
	for _, path := range []string{"/status", "/status.json"} {
		resp, err := http.Get("http://" + env["LISTEN"] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound || strings.Contains(string(body), "calculated_distance") {
			t.Errorf("GET %s of the public port: %d", path, resp.StatusCode)
		}
	}
}

// flows is whether the picture leads from stage to stage along an axis.
func flows(axis string) string {
	return `["web-api", "distance", "db", "email"].map((name) =>
		[...document.querySelectorAll(".box")].find((b) => b.querySelector("b").textContent === name).getBoundingClientRect().` + axis + `
	).every((at, i, all) => i === 0 || at > all[i - 1])`
}

// noOverlap fails the test if boxes of the picture overlap.
func noOverlap(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	if got := tab.String(`[...document.querySelectorAll(".box, .pill")].filter((one, i, all) => all.slice(0, i).some((other) => {
		const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
		return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
	})).map((box) => box.innerText).join()`); got != "" {
		t.Errorf("in the picture, these overlap others: %s", got)
	}
}
