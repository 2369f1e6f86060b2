// Package script holds the Lua scripts of a pipeline. Each one's header lists KEYS, ARGV and reply.
package script

import (
	"embed"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var files embed.FS

var (
	Publish = load("publish")
	Limit   = load("limit")
	Settle  = load("settle")
	Join    = load("join")
	Tick    = load("tick")
	Alone   = load("alone")
	Leave   = load("leave")
	Lease   = load("lease")
	Writer  = load("writer")
	Adopt   = load("adopt")
	Replay  = load("replay")
	Retire  = load("retire")
	Skip    = load("skip")
	Decide  = load("decide")
	Status  = load("status")
	Kinds   = load("kinds")
	Rights  = load("rights")
)

func load(name string) *redis.Script {
	common, err := files.ReadFile("lua/common.lua")
	if err != nil {
		panic(err)
	}
	body, err := files.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err)
	}
	return redis.NewScript(string(common) + "\n" + string(body))
}
