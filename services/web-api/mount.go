package webapi

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/services/internal/jsonapi"
)

//go:embed templates
var templateFiles embed.FS

// mount is the pages as they are under one path, which their links begin with.
type mount struct {
	pages    *template.Template
	accepted skeleton // the page of an accepted submission
	repeated skeleton // and of one that was submitted before
}

// newMount renders what is the same in every answer below the path root; "" is the site's root.
func (s *site) newMount(root string) (*mount, error) {
	pages, err := template.New("").Funcs(template.FuncMap{
		"root": func() string { return root },
		"asset": func(name string) (string, error) {
			address, err := s.assets.url(name)
			return root + address, err
		},
	}).ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("open pages: %w", err)
	}
	m := &mount{pages: pages}
	for repeat, k := range map[bool]*skeleton{false: &m.accepted, true: &m.repeated} {
		if *k, err = s.acceptedSkeleton(pages, repeat); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// mounts are the pages under BASE_PATH, and under the paths that trusted proxies named.
type mounts struct {
	home   *mount
	mu     sync.Mutex
	others map[string]*mount
}

const maxMounts = 16

func (s *site) mount(c echo.Context) *mount {
	at := root(c)
	if at == string(s.settings.BasePath) {
		return s.mounts.home
	}
	s.mounts.mu.Lock()
	defer s.mounts.mu.Unlock()
	if m := s.mounts.others[at]; m != nil {
		return m
	}
	m, err := s.newMount(at)
	if err != nil {
		s.log.ErrorContext(c.Request().Context(), "pages not rendered under another path", "path", at, "err", err)
		return s.mounts.home
	}
	if s.mounts.others == nil || len(s.mounts.others) >= maxMounts {
		s.mounts.others = map[string]*mount{}
	}
	s.mounts.others[at] = m
	return m
}

const rootKey = "root"

// root returns the path that links of the answer begin with; "" is the root.
func root(c echo.Context) string {
	at, _ := c.Get(rootKey).(string)
	return at
}

// rooted removes BASE_PATH from the request's path, unless a proxy has, and notes the path that
// links begin with. It also removes a slash at the end of the path.
func (s *site) rooted(next echo.HandlerFunc) echo.HandlerFunc {
	base := string(s.settings.BasePath)
	return func(c echo.Context) error {
		u := c.Request().URL
		at := s.proxies.prefix(c.Request())
		if rest, ok := strings.CutPrefix(u.Path, base); ok && base != "" && (rest == "" || rest[0] == '/') {
			u.Path, u.RawPath = rest, strings.TrimPrefix(u.RawPath, base)
			at += base
		} else if at == "" {
			at = base
		}
		if at != "" {
			c.Set(rootKey, at)
		}
		if u.Path == "" {
			home := at + "/"
			if u.RawQuery != "" {
				home += "?" + u.RawQuery
			}
			return c.Redirect(http.StatusPermanentRedirect, home)
		}
		jsonapi.TrimSlash(u)
		return next(c)
	}
}
