// Package browsertest drives a headless Chromium, for tests of pages.
package browsertest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// axe is axe-core 4.14.1 as npm ships it (MPL 2.0; see axe/LICENSE).
//
//go:embed axe/axe.min.js
var axe string

// patience is how long one action of the browser may take.
const patience = time.Minute

// Browser is a Chromium with an empty profile.
type Browser struct{ ctx context.Context }

// Start starts a browser that ends with the test. With CI=true a missing Chromium fails the test,
// elsewhere it skips it.
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
	// Not t.TempDir: the browser's helper processes write for a moment after it has ended.
	profile, err := os.MkdirTemp("", "milepost-chromium-")
	stagetest.OK(t, err)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		// A page at a name other than localhost is no secure context, as on a plain HTTP
		// site.
		chromedp.Flag("host-resolver-rules", "MAP milepost.test 127.0.0.1"))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser has ended; stop kills what is left of it
		cancel()
		stop()
		stagetest.Eventually(t, "the browser's folder is removed", func() bool { return os.RemoveAll(profile) == nil })
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &Browser{ctx}
}

// Tab is one visitor: a tab with cookies and storage of its own.
type Tab struct {
	ctx   context.Context
	t     testing.TB
	plain bool // JavaScript is off

	mu       sync.Mutex
	messages []string // errors and warnings in the console
	hosts    map[string]int
}

// Open opens a tab for a new visitor, 1200 by 900 CSS pixels, who prefers less motion: drawing it
// takes most of the time. At its end, the test fails if the
// console has an error or a warning (a broken policy, a failed load, an exception) that Expect did
// not name.
func (b *Browser) Open(t testing.TB) *Tab {
	t.Helper()
	return open(b.ctx, t, chromedp.WithNewBrowserContext())
}

func (tab *Tab) Another() *Tab {
	tab.t.Helper()
	return open(tab.ctx, tab.t, chromedp.WithExistingBrowserContext(chromedp.FromContext(tab.ctx).BrowserContextID))
}

func open(ctx context.Context, t testing.TB, visitor chromedp.ContextOption) *Tab {
	t.Helper()
	tab := &Tab{t: t, hosts: map[string]int{}}
	var cancel context.CancelFunc
	tab.ctx, cancel = chromedp.NewContext(ctx, visitor, chromedp.WithListener(tab.hear))
	t.Cleanup(func() {
		for _, m := range tab.Messages() {
			t.Errorf("the browser's console: %s", m)
		}
		if t.Failed() {
			tab.Picture(t.Name())
		}
		cancel()
	})
	if err := chromedp.Do(tab.ctx); err != nil { // no deadline: the tab lives as long as this context
		t.Fatalf("open a tab: %v", err)
	}
	tab.Size(1200, 900)
	// Each tab behaves as the one in front, so that tests can run side by side.
	call(tab, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	tab.Prefer("prefers-reduced-motion", "reduce")
	return tab
}

func (tab *Tab) hear(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			tab.messages = append(tab.messages, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		tab.messages = append(tab.messages, (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
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

// Messages returns what the console got since the last call.
func (tab *Tab) Messages() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	m := tab.messages
	tab.messages = nil
	return m
}

// Expect removes the messages that contain text: the test has caused them.
func (tab *Tab) Expect(text string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.messages = slices.DeleteFunc(tab.messages, func(m string) bool { return strings.Contains(m, text) })
}

func (tab *Tab) Hosts() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Collect(maps.Keys(tab.hosts))
}

// run runs an action that must succeed within the time that a test waits for anything.
func run[T any](tab *Tab, what string, action chromedp.Action[T]) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	if err != nil {
		tab.t.Fatalf("%s: %v\n%s", what, err, strings.Join(tab.Messages(), "\n"))
	}
	return got
}

// call runs a command of the DevTools protocol that must succeed.
func call[P, R any](tab *Tab, command cdp.Command[P, R], params P) {
	tab.t.Helper()
	run(tab, command.Method, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// Go opens an address and waits until it is loaded. It is loaded again if Chromium gave up loads
// because a network interface of the machine came or went, as those of containers do.
func (tab *Tab) Go(url string) {
	tab.t.Helper()
	const changed = "ERR_NETWORK_CHANGED"
	for range 5 {
		run(tab, "open "+url, chromedp.Navigate(url))
		tab.mu.Lock()
		gaveUp := slices.ContainsFunc(tab.messages, func(m string) bool { return strings.Contains(m, changed) })
		tab.mu.Unlock()
		if !gaveUp {
			return
		}
		tab.Expect(changed)
	}
}

// Reload loads the page again. If a form's post made the page, the form is posted again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	run(tab, "reload", chromedp.Reload())
}

// Back goes to the page before, as the browser's button does, and does not wait for it. A page that
// comes back as it was, without being loaded, has no event to wait for.
func (tab *Tab) Back() {
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	_, _ = chromedp.Run(ctx, chromedp.Evaluate[[]byte]("history.back()")) // the page may be gone before it answers
}

// Hide tells the page that its tab is hidden, or shown again.
func (tab *Tab) Hide(hidden bool) {
	tab.t.Helper()
	tab.Eval(fmt.Sprintf(`(() => {
		Object.defineProperty(document, "hidden", {value: %t, configurable: true});
		document.dispatchEvent(new Event("visibilitychange"));
	})()`, hidden), nil)
}

func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	run(tab, "click "+selector, click(selector))
}

// ClickThrough clicks an element that leads to another page and waits until that page is loaded.
func (tab *Tab) ClickThrough(selector string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, click(selector)); err != nil {
		tab.t.Fatalf("click %s: %v", selector, err)
	}
}

func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)
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

// Keys presses keys, in the element that has the focus.
func (tab *Tab) Keys(keys string) {
	tab.t.Helper()
	run(tab, "press keys", chromedp.KeyEvent(keys))
}

// Eval evaluates an expression, which may be a promise, into out; nil drops its value.
func (tab *Tab) Eval(expression string, out any) {
	tab.t.Helper()
	value := run(tab, "evaluate "+expression, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise))
	if out == nil {
		return
	}
	if err := json.Unmarshal(value, out); err != nil {
		tab.t.Fatalf("evaluate %s: %v", expression, err)
	}
}

func (tab *Tab) String(expression string) (s string) {
	tab.t.Helper()
	tab.Eval(expression, &s)
	return s
}

func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	return tab.String(fmt.Sprintf("document.querySelector(%q).innerText", selector))
}

func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	ok := false
	defer func() {
		if !ok {
			tab.t.Logf("the page says:\n%s", tab.Text("body"))
		}
	}()
	stagetest.Eventually(tab.t, expression, func() bool {
		if tab.Eval("Boolean("+expression+")", &ok); !ok {
			time.Sleep(20 * time.Millisecond) // leaves the page time to work
		}
		return ok
	})
}

// Size sets the size of the window in CSS pixels.
func (tab *Tab) Size(width, height int64) {
	tab.t.Helper()
	run(tab, "resize", chromedp.EmulateViewport(width, height))
}

// Prefer sets media features: names and values in turn, such as "prefers-color-scheme", "dark".
func (tab *Tab) Prefer(features ...string) {
	tab.t.Helper()
	var list []*emulation.MediaFeature
	for pair := range slices.Chunk(features, 2) {
		list = append(list, &emulation.MediaFeature{Name: pair[0], Value: pair[1]})
	}
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: list})
}

// NoScript switches JavaScript off for the pages that follow. Eval still works.
func (tab *Tab) NoScript() {
	tab.t.Helper()
	tab.plain = true
	tab.scripts(false)
}

func (tab *Tab) scripts(on bool) {
	tab.t.Helper()
	call(tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// Offline cuts the tab off from the network, or connects it again.
func (tab *Tab) Offline(off bool) {
	tab.t.Helper()
	call(tab, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: off, DownloadThroughput: -1, UploadThroughput: -1})
	call(tab, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}},
	})
}

// Locate allows or denies the page at origin to know the visitor's location, and sets it.
func (tab *Tab) Locate(origin string, allow bool, lat, long float64) {
	tab.t.Helper()
	p := browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "geolocation"}, Setting: browser.PermissionSettingDenied,
		Origin: origin, BrowserContextID: chromedp.FromContext(tab.ctx).BrowserContextID,
	}
	if allow {
		p.Setting = browser.PermissionSettingGranted
	}
	if _, err := chromedp.CallBrowser(tab.ctx, browser.SetPermission, p); err != nil {
		tab.t.Fatalf("set the permission: %v", err)
	}
	accuracy := 10.0 // metres
	call(tab, emulation.SetGeolocationOverride, emulation.SetGeolocationOverrideParams{Latitude: &lat, Longitude: &long, Accuracy: &accuracy})
}

// Accessible fails the test for each violation that axe-core finds of WCAG 2.2 A and AA, and of its
// own best practices.
func (tab *Tab) Accessible(state string) {
	tab.t.Helper()
	if tab.plain { // axe needs timers; the page's own scripts run only in a page opened later
		tab.scripts(true)
		defer tab.scripts(false)
	}
	var loaded bool
	tab.Eval("typeof axe === 'object'", &loaded)
	if !loaded {
		tab.Eval(axe+";true", nil)
	}
	var found []struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}
	tab.Eval(`axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"],
	}).then((r) => r.violations)`, &found)
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

// Looks compares the whole page with a golden picture, which update writes anew. Both are reduced
// to an eighth, so that edges of letters do not count: at most 2 of 100 points may differ visibly.
func (tab *Tab) Looks(golden string, update bool) {
	tab.t.Helper()
	tab.Eval("document.fonts.ready.then(() => true)", nil)
	full, err := png.Decode(bytes.NewReader(run(tab, "picture", chromedp.FullScreenshot(100))))
	if err != nil {
		tab.t.Fatalf("%s: %v", golden, err)
	}
	got := reduced(full)
	if update {
		var b bytes.Buffer
		stagetest.OK(tab.t, errors.Join(png.Encode(&b, got), os.MkdirAll(filepath.Dir(golden), 0o755), os.WriteFile(golden, b.Bytes(), 0o644)))
		return
	}
	file, err := os.ReadFile(golden)
	stagetest.OK(tab.t, err)
	want, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		tab.t.Fatalf("%s: %v", golden, err)
	}
	size, wanted := got.Bounds().Size(), want.Bounds().Size()
	if d := size.Sub(wanted); d.X != 0 || d.Y < -4 || d.Y > 4 {
		tab.t.Errorf("%s: the page is %v, golden %v, in units of eight pixels", golden, size, wanted)
		return
	}
	differ := 0
	for y := range min(size.Y, wanted.Y) {
		for x := range size.X {
			if far(got.At(x, y), want.At(x, y)) {
				differ++
			}
		}
	}
	tab.t.Logf("%s: %d of %d points differ", golden, differ, size.X*size.Y)
	if differ*50 > size.X*size.Y {
		tab.t.Errorf("%s: %d of %d points differ; look at the page, then run go test -update", golden, differ, size.X*size.Y)
		tab.Picture(golden)
	}
}

// reduced is a picture at an eighth of its size.
func reduced(full image.Image) *image.RGBA {
	size := full.Bounds().Size().Div(8)
	small := image.NewRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			var sum [3]uint32
			for i := range 64 {
				r, g, b, _ := full.At(8*x+i%8, 8*y+i/8).RGBA()
				sum[0], sum[1], sum[2] = sum[0]+r>>8, sum[1]+g>>8, sum[2]+b>>8
			}
			small.SetRGBA(x, y, color.RGBA{uint8(sum[0] / 64), uint8(sum[1] / 64), uint8(sum[2] / 64), 255})
		}
	}
	return small
}

// far reports whether two colours differ visibly.
func far(a, b color.Color) bool {
	ar, ag, ab, _ := a.RGBA()
	br, bg, bb, _ := b.RGBA()
	for _, d := range []int{int(ar>>8) - int(br>>8), int(ag>>8) - int(bg>>8), int(ab>>8) - int(bb>>8)} {
		if d > 24 || d < -24 {
			return true
		}
	}
	return false
}

// Picture writes a picture of the whole page into the folder that SCREENSHOTS names. Without
// SCREENSHOTS it does nothing.
func (tab *Tab) Picture(name string) {
	tab.t.Helper()
	tab.keep(name+".png", chromedp.FullScreenshot(100))
}

// Window is Picture for what the window shows, as JPEG: a picture for a README.
func (tab *Tab) Window(name string) {
	tab.t.Helper()
	tab.Eval("scrollTo(0, 0)", nil)
	tab.keep(name+".jpg", func(ctx context.Context, t *chromedp.Target) ([]byte, error) {
		quality := int64(85)
		r, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatJpeg, Quality: &quality})
		return r.Data, err
	})
}

func (tab *Tab) keep(name string, picture chromedp.Action[[]byte]) {
	tab.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	b, err := chromedp.Run(ctx, picture)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")), b, 0o600)
	}
	if err != nil {
		tab.t.Errorf("no picture: %v", err)
	}
}
