// Bare-echo is the handler that the edge is compared with: echo and one script call a request,
// which keeps the body in a stream and publishes it. It does not decode the body, makes no event
// ID, and has no limits or metrics. `make bench` builds it; no image has it.
//
//	bare-echo LISTEN REDIS_ADDRESS
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// keep appends and publishes. KEYS: the stream, whose name is the channel's too. ARGV: the payload.
// Reply: the entry's ID.
var keep = redis.NewScript(`
local id = redis.call('XADD', KEYS[1], '*', 'payload', ARGV[1])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return id`)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: bare-echo LISTEN REDIS_ADDRESS")
		os.Exit(2)
	}
	rdb := redis.NewClient(&redis.Options{Addr: os.Args[2]})
	e := echo.New()
	e.POST("/distance", func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		id, err := keep.Run(c.Request().Context(), rdb, []string{"bare"}, body).Text()
		if err != nil {
			return err
		}
		return c.JSON(http.StatusCreated, struct {
			ID string `json:"id"`
		}{id})
	})
	fmt.Fprintln(os.Stderr, "bare-echo:", http.ListenAndServe(os.Args[1], e))
	os.Exit(1)
}
