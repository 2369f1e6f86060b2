package cache_test

import (
	"path/filepath"
	"testing"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// With the file that compose and the chart mount, a restarted cache is warm.
func TestConf(t *testing.T) {
	conf, err := filepath.Abs("../../charts/milepost/files/cache.conf")
	stagetest.OK(t, err)
	server := stagetest.Real(t, "--include", conf, "--bind", "127.0.0.1", "--dir", t.TempDir())
	var s source
	c := cache.New[int64](open(t, server.Options()), cache.Options{Name: "t"})
	get(t, c, &s)
	rdb := plain(t, server.Options())
	_ = rdb.Shutdown(t.Context()) // as on SIGTERM; the reply is the end of the connection
	server.Kill()
	server.Start()
	stagetest.Eventually(t, "the cache is warm after its restart", func() bool { return get(t, c, &s).Cached && s.loads.Load() == 1 })
}
