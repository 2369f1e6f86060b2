package standalone_test

import (
	"strings"
	"testing"

	"github.com/milepost/milepost/services/internal/browsertest"
)

// TestBrowser is what a person sees who runs the program and opens the page. The page's own
// states are tested in services/web-api, on stages that do what the test says.
func TestBrowser(t *testing.T) {
	t.Parallel()
	browser := browsertest.Start(t)
	env := environment(t, t.TempDir())
	r := start(t, env)
	tab := browser.Open(t)
	tab.Prefer("prefers-reduced-motion", "no-preference")
	tab.Go("http://" + env["LISTEN"] + "/")
	tab.Click("#samples button")
	tab.Type("#email", "ada@example.com")
	tab.Click("#form .primary")
	tab.Until(`document.querySelector(".card [data-stage=email][data-state=done]")`)
	tab.Until(`document.querySelector(".card .miles")?.textContent === "5,679.94 miles"`)
	tab.Until(`document.querySelector("#length").textContent === "5,679.94 miles"`)
	tab.Accessible("emailed")
	// README's pictures, with SCREENSHOTS=FOLDER
	tab.Until(`document.querySelector("#globe[data-still]")`)
	tab.Eval(`document.activeElement.blur()`, nil)
	tab.Prefer("prefers-color-scheme", "light")
	tab.Size(1280, 760)
	tab.Window("page")
	tab.Prefer("prefers-color-scheme", "dark")
	tab.Size(375, 800)
	tab.Window("page-phone")
	if log := r.log(); strings.Count(log, "\n") != 1 || !newYork.MatchString(log) {
		t.Errorf("sent_emails has %q; want one line of New York", log)
	}
	if hosts := tab.Hosts(); len(hosts) != 1 || hosts[0] != env["LISTEN"] {
		t.Errorf("the page asked %q; want %s alone", hosts, env["LISTEN"])
	}
}
