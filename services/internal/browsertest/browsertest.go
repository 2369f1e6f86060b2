// Package browsertest drives a headless Chromium for tests of the page. Programs do not import it.
package browsertest

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// axe is axe-core 4.14.1 as npm ships it (MPL 2.0; see axe/LICENSE).
//
//go:embed axe/axe.min.js
var axe string

// patience is how long a test waits for what has to happen. Nothing here measures time.
const patience = 30 * time.Second

// Browser is a Chromium with an empty profile.
type Browser struct{ ctx context.Context }

// Start starts a browser that ends with the test. With CI=true a missing Chromium fails the test, elsewhere it skips it.
func Start(t testing.TB) *Browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is not installed: apt-get install chromium")
		}
		t.Skip("not run: chromium is not installed (apt-get install chromium)")
	}
	// A folder of our own: the browser may still be writing when a test's folder is removed.
	profile, err := os.MkdirTemp("", "milepost-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		// A name that is not the loopback address': a page there is no secure context, as on a plain HTTP site.
		chromedp.Flag("host-resolver-rules", "MAP milepost.test 127.0.0.1"),
		chromedp.WSURLReadTimeout(patience))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser's end; stop kills what is left of it
		cancel()
		stop()
		for end := time.Now().Add(patience); os.RemoveAll(profile) != nil && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond) // its helpers end after it, and write until then
		}
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &Browser{ctx}
}

// Tab is one visitor: a tab with cookies and storage of its own.
type Tab struct {
	ctx     context.Context
	t       testing.TB
	visitor cdp.BrowserContextID
	plain   bool // scripts are off

	mu       sync.Mutex
	messages []string // what the browser complained of
	hosts    map[string]int
}

// Open opens a tab for a new visitor, 1200 by 900. When the test ends, a tab in whose console the browser complained of
// anything (a broken policy, a failed load, an exception) fails it, but for what Expect named.
func (b *Browser) Open(t testing.TB) *Tab {
	t.Helper()
	whole := cdp.WithExecutor(b.ctx, chromedp.FromContext(b.ctx).Browser)
	visitor, err := target.CreateBrowserContext().Do(whole)
	if err != nil {
		t.Fatalf("new visitor: %v", err)
	}
	// chromedp's own way to do this asks for no window, and where a visitor has none yet, Chromium refuses.
	id, err := target.CreateTarget("about:blank").WithBrowserContextID(visitor).WithNewWindow(true).Do(whole)
	if err != nil {
		t.Fatalf("new window: %v", err)
	}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithTargetID(id))
	tab := &Tab{ctx: ctx, t: t, visitor: visitor, hosts: map[string]int{}}
	chromedp.ListenTarget(ctx, tab.hear)
	t.Cleanup(func() {
		for _, m := range tab.Messages() {
			t.Errorf("the browser complained: %s", m)
		}
		if t.Failed() {
			tab.Picture(t.Name())
		}
		cancel()
		_ = target.DisposeBrowserContext(visitor).Do(whole) // else it ends with the browser
	})
	// The first run attaches, and what is attached lives as long as its context: no deadline here.
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("attach to the window: %v", err)
	}
	tab.Do("open", log.Enable(), network.Enable(), runtime.Enable())
	tab.Size(1200, 900)
	return tab
}

func (tab *Tab) hear(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			tab.messages = append(tab.messages, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		tab.messages = append(tab.messages, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			var words []string
			for _, a := range e.Args {
				words = append(words, string(a.Value))
			}
			tab.messages = append(tab.messages, strings.Join(words, " "))
		}
	case *network.EventRequestWillBeSent:
		if _, rest, ok := strings.Cut(e.Request.URL, "://"); ok {
			host, _, _ := strings.Cut(rest, "/")
			tab.hosts[host]++
		}
	}
}

// Messages takes what the browser complained of so far.
func (tab *Tab) Messages() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	m := tab.messages
	tab.messages = nil
	return m
}

// Expect takes the complaints that contain text, as those that the test brought about.
func (tab *Tab) Expect(text string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	var others []string
	for _, m := range tab.messages {
		if !strings.Contains(m, text) {
			others = append(others, m)
		}
	}
	tab.messages = others
}

// Hosts are the hosts that were asked for anything.
func (tab *Tab) Hosts() (hosts []string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for h := range tab.hosts {
		hosts = append(hosts, h)
	}
	return hosts
}

// Do runs browser actions that must succeed.
func (tab *Tab) Do(what string, actions ...chromedp.Action) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		tab.t.Fatalf("%s: %v\n%s", what, err, strings.Join(tab.Messages(), "\n"))
	}
}

// Go opens an address and waits until it is loaded.
func (tab *Tab) Go(url string) {
	tab.t.Helper()
	tab.Do("open "+url, chromedp.Navigate(url))
}

// Reload loads the page again; a page that a form's post made is posted again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	tab.Do("reload", chromedp.Reload())
}

// Click clicks the middle of an element with the mouse.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.Do("click "+selector, chromedp.Click(selector, chromedp.ByQuery, chromedp.NodeVisible))
}

// ClickThrough clicks something that leads to another page and waits until that is loaded.
func (tab *Tab) ClickThrough(selector string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(selector, chromedp.ByQuery, chromedp.NodeVisible)); err != nil {
		tab.t.Fatalf("click %s: %v", selector, err)
	}
}

// Type empties a field and types into it.
func (tab *Tab) Type(selector, text string) {
	tab.t.Helper()
	tab.Eval(fmt.Sprintf(`(() => {
		const field = document.querySelector(%q);
		field.focus();
		field.value = "";
		field.dispatchEvent(new Event("input", {bubbles: true}));
	})()`, selector), nil)
	tab.Keys(text)
}

// Keys presses keys, wherever the focus is.
func (tab *Tab) Keys(keys string) {
	tab.t.Helper()
	tab.Do("press keys", chromedp.KeyEvent(keys))
}

// Eval evaluates an expression, which may be a promise, into out.
func (tab *Tab) Eval(expression string, out any) {
	tab.t.Helper()
	tab.Do("evaluate "+expression, chromedp.Evaluate(expression, out, func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}))
}

// String evaluates an expression whose value is a string.
func (tab *Tab) String(expression string) (s string) {
	tab.t.Helper()
	tab.Eval(expression, &s)
	return s
}

// Text is the text of an element as it is shown.
func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	return tab.String(fmt.Sprintf("document.querySelector(%q).innerText", selector))
}

// Until waits until an expression is true.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	ok := false
	defer func() {
		if !ok {
			tab.t.Logf("the page says:\n%s", tab.Text("body"))
		}
	}()
	stagetest.Eventually(tab.t, expression, func() bool {
		tab.Eval("Boolean("+expression+")", &ok)
		return ok
	})
}

// Size sets the size of the window in CSS pixels.
func (tab *Tab) Size(width, height int64) {
	tab.t.Helper()
	tab.Do("resize", chromedp.EmulateViewport(width, height))
}

// Prefer sets a media feature, such as prefers-color-scheme to dark.
func (tab *Tab) Prefer(features ...string) {
	tab.t.Helper()
	var list []*emulation.MediaFeature
	for i := 0; i < len(features); i += 2 {
		list = append(list, &emulation.MediaFeature{Name: features[i], Value: features[i+1]})
	}
	tab.Do("prefer", emulation.SetEmulatedMedia().WithFeatures(list))
}

// NoScript switches JavaScript off for the pages to come. Eval still works.
func (tab *Tab) NoScript() {
	tab.t.Helper()
	tab.plain = true
	tab.Do("switch scripts off", emulation.SetScriptExecutionDisabled(true))
}

// Offline cuts the tab off from the network, or connects it again.
func (tab *Tab) Offline(off bool) {
	tab.t.Helper()
	tab.Do("cut off", network.EmulateNetworkConditions(off, 0, -1, -1))
}

// Locate grants or denies the page at origin the visitor's location, and says where that is.
func (tab *Tab) Locate(origin string, allow bool, lat, long float64) {
	tab.t.Helper()
	setting := browser.PermissionSettingDenied
	if allow {
		setting = browser.PermissionSettingGranted
	}
	c := chromedp.FromContext(tab.ctx)
	tab.Do("set the permission", chromedp.ActionFunc(func(ctx context.Context) error {
		return browser.SetPermission(&browser.PermissionDescriptor{Name: "geolocation"}, setting).
			WithOrigin(origin).WithBrowserContextID(tab.visitor).Do(cdp.WithExecutor(ctx, c.Browser))
	}), emulation.SetGeolocationOverride().WithLatitude(lat).WithLongitude(long).WithAccuracy(10))
}

// Accessible lets axe-core look at the page and fails the test for each violation of WCAG 2.2 A and AA, and of axe's own
// best practices.
func (tab *Tab) Accessible(state string) {
	tab.t.Helper()
	if tab.plain { // axe waits for timers; the page's own scripts start only when one is opened
		tab.Do("switch scripts on", emulation.SetScriptExecutionDisabled(false))
		defer tab.Do("switch scripts off", emulation.SetScriptExecutionDisabled(true))
	}
	var loaded bool
	tab.Eval("typeof axe === 'object'", &loaded)
	if !loaded {
		tab.Eval(axe+";true", nil)
	}
	var found []struct {
		ID, Impact, Help string
		Nodes            []struct {
			HTML           string
			FailureSummary string
		}
	}
	tab.Eval(`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"]}).then((r) => r.violations)`, &found)
	for _, v := range found {
		for _, n := range v.Nodes {
			tab.t.Errorf("%s: axe: %s (%s): %s\n%s\n%s", state, v.ID, v.Impact, v.Help, n.HTML, n.FailureSummary)
		}
	}
}

// NoOverflow fails the test if the page is wider than its window.
func (tab *Tab) NoOverflow(state string) {
	tab.t.Helper()
	var over int
	tab.Eval("document.documentElement.scrollWidth - document.documentElement.clientWidth", &over)
	if over > 0 {
		tab.t.Errorf("%s: the page is %d pixels wider than the window", state, over)
	}
}

// Picture writes a picture of the whole page into the folder that SCREENSHOTS names, if it does.
func (tab *Tab) Picture(name string) {
	tab.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	var png []byte
	err := chromedp.Run(ctx, chromedp.FullScreenshot(&png, 100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".png"), png, 0o600)
	}
	if err != nil {
		tab.t.Errorf("no picture: %v", err)
	}
}
