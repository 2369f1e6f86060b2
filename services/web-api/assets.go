package webapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"sync"

	"github.com/labstack/echo/v4"
)

//go:embed assets
var assetFiles embed.FS

// assets are the files of the page, ready to send.
type assets struct {
	version string // hash of all files, part of their addresses: browsers may cache them for ever
	files   map[string]asset
}

type asset struct {
	kind          string
	plain, zipped []byte
}

func openAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}}
	sum := sha256.New()
	w, err := gzip.NewWriterLevel(nil, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(assetFiles, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := assetFiles.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(b), b)
		f := asset{kind: kinds[path.Ext(name)], plain: b}
		if f.kind == "" {
			return fmt.Errorf("asset %s: no media type is known for it", name)
		}
		if f.zipped, err = zip(w, b); err != nil {
			return err
		}
		a.files[path.Base(name)] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open assets: %w", err)
	}
	a.version = hex.EncodeToString(sum.Sum(nil))[:12]
	return a, nil
}

// kinds are the media types. The system's own table differs between machines.
var kinds = map[string]string{
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".svg":   "image/svg+xml",
	".woff2": "font/woff2",
}

// url returns the address of an asset, below the path that the page is published under.
func (a *assets) url(name string) (string, error) {
	if _, ok := a.files[name]; !ok {
		return "", fmt.Errorf("no asset %q", name)
	}
	return "/assets/" + a.version + "/" + name, nil
}

// asset serves an asset. During a rolling update, a page of another version may ask for it. The
// answer is this version's file, which the browser must not cache under that address.
func (s *site) asset(c echo.Context) error {
	f, ok := s.assets.files[c.Param("name")]
	if !ok {
		return echo.ErrNotFound
	}
	h := c.Response().Header()
	if c.Param("version") == s.assets.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	return send(c, http.StatusOK, f.kind, f.plain, f.zipped)
}

// send answers with a body, compressed if the client accepts gzip. A nil zipped is not sent.
func send(c echo.Context, status int, kind string, plain, zipped []byte) error {
	if zipped != nil && takesGzip(c.Request()) {
		return sendAs(c, status, kind, zipped, true)
	}
	return sendAs(c, status, kind, plain, false)
}

// sendAs answers with a body that is gzip or not.
func sendAs(c echo.Context, status int, kind string, body []byte, zipped bool) error {
	h := c.Response().Header()
	h.Add("Vary", "Accept, Accept-Encoding")
	if zipped {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return c.Blob(status, kind, body)
}

// zipFast compresses within a request. A writer takes more than a megabyte, so writers are pooled.
func zipFast(b []byte) ([]byte, error) {
	w := fastZippers.Get().(*gzip.Writer)
	defer fastZippers.Put(w)
	return zip(w, b)
}

var fastZippers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is wrong
	}
	return w
}}

func zip(w *gzip.Writer, b []byte) ([]byte, error) {
	var out bytes.Buffer
	w.Reset(&out)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}
