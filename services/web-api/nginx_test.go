package webapi

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/browsertest"
)

// testNginx submits the form in a browser through a real nginx, over plain HTTP, as its users
// commonly configure it: Host is the name of the backend, not the site's.
func testNginx(t *testing.T, b *browsertest.Browser) {
	local := Networks{netip.MustParsePrefix("127.0.0.1/32")}
	const headers = "proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;"
	for name, tc := range map[string]struct {
		location string // with BACKEND for the address
		path     string // of the page
		settings Settings
		refused  bool
	}{
		"its default, trusted by nobody": {"location / { proxy_pass http://BACKEND; }", "/", Settings{}, true},
		"its default, a trusted origin":  {"location / { proxy_pass http://BACKEND; }", "/", Settings{TrustedOrigins: Origins{"SITE"}}, false},
		"forwarded names":                {"location / { proxy_pass http://BACKEND; " + headers + "}", "/", Settings{TrustedProxies: local}, false},
		"a base path that it keeps":      {"location /milepost { proxy_pass http://BACKEND; " + headers + "}", "/milepost", Settings{TrustedProxies: local, BasePath: "/milepost"}, false},
		"a base path that it removes":    {"location /milepost/ { proxy_pass http://BACKEND/; " + headers + "}", "/milepost/", Settings{TrustedProxies: local, BasePath: "/milepost"}, false},
		"a base path that it tells":      {"location /apps/milepost { rewrite ^/apps/milepost/?(.*)$ /$1 break; proxy_pass http://BACKEND; proxy_set_header X-Forwarded-Prefix /apps/milepost; " + headers + "}", "/apps/milepost", Settings{TrustedProxies: local}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := stagetest.FreePort(t)
			site := fmt.Sprintf("http://milepost.test:%d", port)
			if len(tc.settings.TrustedOrigins) > 0 {
				tc.settings.TrustedOrigins = Origins{site}
			}
			s, base := newPipeline(t, tc.settings)
			startNginx(t, port, strings.ReplaceAll(tc.location, "BACKEND", strings.TrimPrefix(base, "http://")))
			tab := b.Open(t)
			defer tab.Expect("Cross-Origin-Opener-Policy") // ignored over plain HTTP
			tab.Go(site + tc.path)
			fillIn(tab)
			tab.Click(submitButton)
			if tc.refused {
				tab.Until(`document.querySelector(".note.bad")?.innerText.includes("another site")`)
				tab.Expect("403")
				return
			}
			tab.Until(`document.querySelector(".cards .card")`)
			s.all()
			tab.Until(`document.querySelector(".cards [data-stage=email][data-state=done]")`)
			tab.ClickThrough(`#notice a[href*="/events/"]`)
			tab.Until(`document.querySelector("[data-stage=email][data-state=done]")`)
		})
	}
}

// startNginx starts nginx with one location. With CI=true a missing nginx fails the test, elsewhere
// it skips it.
func startNginx(t *testing.T, port int, location string) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx") // Debian's PATH for users lacks it
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("nginx is not installed: apt-get install nginx-light")
	} else if err != nil {
		t.Skip("not run: nginx is not installed (apt-get install nginx-light)")
	}
	dir := t.TempDir()
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen 127.0.0.1:%[2]d; %[3]s } }
`, dir, port, location)
	stagetest.OK(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600))
	cmd := exec.CommandContext(t.Context(), path, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	cmd.Stderr = t.Output()
	stagetest.OK(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	stagetest.Eventually(t, "nginx listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}
