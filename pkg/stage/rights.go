package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// rights are what the stages and publishers of a broker must be allowed to do in Redis. The link
// has them checked before its first script and after each outage, so that no script is refused
// after its first write.
type rights struct {
	mu    sync.Mutex
	needs []func(keys.Names) []need
	last  map[string]verdict // by the base of a shard's keys
}

// verdict is what a shard's last check said.
type verdict struct {
	err     error // if the user lacks rights
	granted int   // how many checks have found all rights
}

// need is a command in words, and the ACL rules that allow it.
type need struct{ command, grant string }

// RightsError says what the user of Redis lacks. It wraps [ErrUnavailable].
type RightsError struct {
	User    string
	Missing []string // commands
	Grant   string   // the command of an administrator that allows them
}

func (e *RightsError) Error() string {
	missing := strings.Join(e.Missing, ", ")
	if n := len(e.Missing); n > 6 {
		missing = fmt.Sprintf("%s and %d more", strings.Join(e.Missing[:6], ", "), n-6)
	}
	return fmt.Sprintf("redis does not let the user %s run %s; to allow it: %s", e.User, missing, e.Grant)
}

// Unwrap returns [ErrUnavailable].
func (e *RightsError) Unwrap() error { return ErrUnavailable }

// require adds needs; the next script is checked.
func (b *Broker) require(needs func(keys.Names) []need) {
	b.rights.mu.Lock()
	defer b.rights.mu.Unlock()
	b.rights.needs = append(b.rights.needs, needs)
	for _, s := range b.all() {
		s.link.Recheck()
	}
}

// needs are those of all stages and publishers, each once.
func (b *Broker) needs(k keys.Names) (all []need) {
	b.rights.mu.Lock()
	defer b.rights.mu.Unlock()
	known := map[need]bool{}
	for _, of := range b.rights.needs {
		for _, n := range of(k) {
			if !known[n] {
				known[n] = true
				all = append(all, n)
			}
		}
	}
	return all
}

// allowed asks Redis whether the user may do all that the stages and publishers need, and whether
// Redis takes writes.
func (b *Broker) allowed(ctx context.Context, over *link.Link) error {
	needs, before := b.needs(over.Keys), b.verdict(over)
	args := make([]any, len(needs))
	for i, n := range needs {
		args[i] = n.command
	}
	var several []string // a proxy may refuse them, or the cluster behind it, since they are in two slots
	if over.Keys.Base == over.Keys.Prefix {
		several = []string{over.Keys.None(), over.Keys.Stages()}
	}
	reply, err := over.RunUnchecked(ctx, script.Rights, several, args...)
	if several != nil && err != nil && link.Denied(err) && strings.Contains(err.Error(), " key") {
		reply, err = over.RunUnchecked(ctx, script.Rights, nil, args...) // says which keys
	}
	if err != nil && foreign(err) {
		if info, _ := over.Client().Info(ctx, "server").Result(); strings.Contains(info, "redis_mode:sentinel") {
			return fmt.Errorf("%w: this is a Sentinel; name its master in the URL: ?master_name=NAME", ErrUnavailable)
		}
		return notRedis(err)
	}
	var missing []need
	if err != nil && strings.Contains(err.Error(), "NOPERM") {
		missing = []need{{"evalsha", "+evalsha +eval"}}
		if strings.Contains(err.Error(), "'select'") { // as the connection is made
			missing = []need{{"select", "+select"}}
		} else if k := over.Keys.None(); strings.Contains(err.Error(), " key") { // in a cluster each script has one
			missing = on(k, "~"+k, "del %", "setrange % 0 a")
		}
	}
	var r struct { // as the script's header says
		Refused     []int
		AllKeys     bool `json:"all_keys"`
		AllChannels bool `json:"all_channels"`
		NoKeys      bool `json:"no_keys"`
		NoChannels  bool `json:"no_channels"`
	}
	if err == nil {
		err = link.Decode(reply, &r)
	}
	for _, n := range r.Refused {
		missing = append(missing, needs[n-1])
	}
	reset, has := "", "" // has: kinds of rules that the user has for everything
	if r.AllKeys {
		has += "~"
	}
	if r.AllChannels {
		has += "&"
	}
	if r.NoKeys {
		reset += "resetkeys "
	}
	if r.NoChannels {
		reset += "resetchannels "
	}
	if len(missing) > 0 {
		err = b.lacking(over, missing, has, reset)
	}
	b.judge(over, before, len(missing) > 0, err)
	return err
}

func (b *Broker) verdict(over *link.Link) verdict {
	b.rights.mu.Lock()
	defer b.rights.mu.Unlock()
	return b.rights.last[over.Keys.Base]
}

// judge keeps what a check said that began when the verdict was before. Checks run side by side: a
// refusal does not count if another check has found all rights in the meantime.
func (b *Broker) judge(over *link.Link, before verdict, lacks bool, err error) {
	b.rights.mu.Lock()
	defer b.rights.mu.Unlock()
	now := b.rights.last[over.Keys.Base]
	switch {
	case !lacks:
		now.err = nil
		if err == nil {
			now.granted++
		}
	case now.granted != before.granted:
		return
	default:
		if now.err == nil || now.err.Error() != err.Error() {
			b.log.Error("the rights in redis do not suffice", "err", err)
		}
		now.err = err
	}
	b.rights.last[over.Keys.Base] = now
}

// notRedis is the error if something else than Redis answers with err.
func notRedis(err error) error {
	return fmt.Errorf("%w: it does not run scripts with several keys; a proxy such as Envoy or Twemproxy cannot carry a pipeline, so name Redis itself: %w", ErrUnavailable, err)
}

// foreign tells whether a reply to a script that fails on no Redis comes from something else.
func foreign(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !link.Away(err) && !link.Refused(err) && !strings.Contains(reply.Error(), "user_script") && !strings.Contains(reply.Error(), "ing script")
}

// denied is what the user lacked at the last check of some shard.
func (b *Broker) denied() error {
	b.rights.mu.Lock()
	defer b.rights.mu.Unlock()
	for _, v := range b.rights.last {
		if v.err != nil {
			return v.err
		}
	}
	return nil
}

// lacking names what is missing. has are the kinds of rules ("~", "&") that need no more; reset are
// rules to begin with, for a user that may have all keys and no command to use them, or the like.
func (b *Broker) lacking(over *link.Link, missing []need, has, reset string) error {
	e := &RightsError{User: b.link.Client().Options().Username}
	if e.User == "" {
		e.User = "default"
	}
	var commands, others []string
	for _, n := range missing {
		words := strings.Fields(n.command)
		name := strings.ToUpper(words[0])
		if len(words) > 1 && strings.Contains(n.grant, "|") {
			name += " " + strings.ToUpper(words[1])
		}
		if len(words) > 1 && (strings.HasSuffix(name, "PUBLISH") || strings.HasSuffix(name, "SUBSCRIBE")) {
			name += " " + words[1]
		}
		if !slices.Contains(e.Missing, name) {
			e.Missing = append(e.Missing, name)
		}
		for _, rule := range strings.Fields(n.grant) {
			list := &others
			if rule[0] == '+' {
				list = &commands
			}
			if !slices.Contains(*list, rule) && !strings.Contains(has, rule[:1]) {
				*list = append(*list, rule)
			}
		}
	}
	e.Grant = "ACL SETUSER " + e.User + " " + reset + strings.Join(append(others, commands...), " ")
	if tag := strings.TrimPrefix(over.Keys.Base, over.Keys.Prefix); tag != "" {
		e.Grant = strings.ReplaceAll(e.Grant, tag, "{*}") // of all shards, on each node
	}
	return e
}

// on are commands, in words with % for the key, that need the rules beside their own name.
func on(key, rules string, commands ...string) (needs []need) {
	for _, c := range commands {
		words := strings.Fields(c)
		name := words[0]
		if name == "xgroup" || name == "xinfo" || name == "pubsub" || name == "client" || name == "cluster" {
			name += "|" + words[1]
		}
		needs = append(needs, need{strings.ReplaceAll(c, "%", key), strings.TrimSpace("+" + name + " " + rules)})
	}
	return needs
}

// always are the rights of every stage and publisher.
func (b *Broker) always(k keys.Names) []need {
	progress := k.Base + "progress:"
	var database []need
	if b.opt.Redis.DB != 0 {
		database = on("", "", "select 1")
	}
	if k.Base != k.Prefix {
		database = slices.Concat(on("", "", "cluster slots", "cluster nodes"), on(k.Pipeline(), "~"+k.Pipeline(), "hget % a", "hsetnx % a b"))
	}
	return slices.Concat(database,
		on(k.None(), "~"+k.None(), "del %", "setrange % 0 a"),
		on(k.Stages(), "~"+k.Stages(), "hset % a b", "hgetall %"),
		on(progress+"a", "~"+progress+"*", "hset % a b", "hget % a", "expire % 1", "hlen %", "rpush % a", "lindex % 0", "lpop %", "exists %", "del %", "type %"),
		on(k.Watchers(), "&"+k.Watchers(), "publish % a"),
		on("", "", "time", "pubsub numsub a", "pubsub numpat", "info", "ping", "unsubscribe", "client id", "client unblock 1"),
	)
}

// output are the rights of a program that adds to a channel's stream.
func output(k keys.Names, channel string) []need {
	all := "~" + k.Stream(channel) + " ~" + k.Stream(channel) + ":*"
	return slices.Concat(
		on(k.Stream(channel), all, "xadd % * a b", "xdel % 0-1", "xlen %", "xtrim % minid 0", "type %", "xinfo groups %", "xinfo stream %", "xrange % - +", "xpending % a"),
		on(k.Groups(channel), all, "hgetall %", "hincrby % a 1", "exists %"),
		on(k.Floors(channel), all, "hget % a", "hset % a b"),
		on(k.Due(channel), all, "zcard %"),
		on(k.Live(channel), "&"+k.Live(channel)+" &"+k.Kept(channel), "publish % a"),
		on(k.Kept(channel), "&"+k.Live(channel)+" &"+k.Kept(channel), "publish % a"),
	)
}

// needs are the rights of a stage.
func (s *Stage) needs(k keys.Names) []need {
	in := s.cfg.In
	all := "~" + k.Stream(in) + " ~" + k.Stream(in) + ":*"
	consumer := "~" + k.Consumer(s.cfg.Name, "*")
	needs := slices.Concat(s.b.always(k), output(k, in),
		on(k.Stream(in), all, "xack % a 0-1", "xclaim % a b 0 0-1", "xgroup create % a $", "xgroup createconsumer % a b",
			"xgroup delconsumer % a b", "xinfo consumers % a", "xreadgroup group a b streams % >"),
		on(k.Groups(in), all, "hget % a", "hset % a b", "hdel % a"),
		on(k.Due(in), all, "zadd % 1 a", "zrem % a", "zrangebyscore % 0 1"),
		on(k.Dead(in), all, "xadd % * a b", "xlen %"),
		on(k.Adopter(in), all, "get %", "set % a", "pexpire % 1", "del %", "exists %"),
		on(k.Heard(), "~"+k.Heard(), "get %", "set % a"),
		on(k.Consumer(s.cfg.Name, "a"), consumer, "get %", "set % a", "pexpire % 1", "persist %", "exists %", "pttl %", "del %"),
	)
	if !s.cfg.NoAdopt {
		for _, c := range []string{k.Live(in), k.Kept(in), k.Adopters(in)} {
			needs = append(needs, on(c, "&"+c, "subscribe %")...)
		}
		if x := k.Sharded(in); k.Base != k.Prefix {
			kept := x.Stream(":kept")
			needs = slices.Concat(needs, on(k.Live(in), "&"+k.Live(in), "ssubscribe %"), on(kept, "&"+kept, "ssubscribe %", "spublish % a"),
				on(x.Adopter(""), "~"+x.Adopter(""), "get %", "set % a", "del %"), on(x.None(), "~"+x.None(), "del %"))
		}
	}
	if s.lasting && k.Base != k.Prefix {
		needs = append(needs, on("", "", "wait 1 1")...)
	}
	for _, o := range s.cfg.Out {
		needs = append(needs, output(k, o.Channel)...)
	}
	return needs
}

// needs are the rights of a publisher.
func (p *Publisher) needs(k keys.Names) []need {
	needs := slices.Concat(p.b.always(k), output(k, p.channel))
	if p.b.opt.WaitReplicas > 0 {
		needs = append(needs, on("", "", "wait 1 1")...)
	}
	needs = append(needs, on(k.Pipeline(), "~"+k.Pipeline(), "hget % a", "hsetnx % a b")...)
	for _, pattern := range []string{k.Idempotency("*"), k.Limit("*")} {
		needs = append(needs, on(pattern, "~"+pattern, "get %", "set % a", "pttl %", "del %")...)
	}
	ids := k.Base + "idempotency-at:*"
	needs = append(needs, on(ids, "~"+ids, "hsetnx % a b", "hexists % a", "hdel % a", "expire % 1", "pttl %", "del %")...)
	needs = append(needs, on("", "", "scan 0")...)
	return slices.Concat(needs, on(k.Watchers(), "&"+k.Watchers(), "subscribe %"))
}
