// Package keys names everything that a pipeline has in Redis.
package keys

// Names builds the names of all keys and channels of a shard: Base and the word below. Lua scripts
// get Base as their last argument, and build a channel's other keys from its stream's. Pub/Sub
// channels, and the key pipeline, belong to all shards: they have Prefix only.
//
//	<channel>                   stream of entries, kept until every group has settled them;
//	                            also the Pub/Sub channel
//	<channel>:dead              stream of dead letters
//	<channel>:due               sorted set of retries by due time in ms; a member is a packed entry
//	<channel>:groups            hash, with these fields:
//	    policy:<group>          "required", "optional", or "ignored" if a tool decided that
//	    done:<group>            entries the group has settled, counted from the stream's first
//	    lost:<group>            entries an optional group was trimmed past
//	    alone:<group>:<consumer> "<entry ID> <times> <process>": the entry that this consumer
//	                            handles alone
//	    starts:<group>:<consumer> unfinished starts of a lasting consumer: since it last settled
//	                            all entries that were pending for it
//	    writer:<group>          whom a shard of a Redis Cluster belongs to, see writer.lua
//	    trimmed                 entries trimmed from the stream; a group's backlog is
//	                            XLEN + trimmed - done
//	<channel>:floors            hash: group -> entry ID up to which it has settled everything
//	<channel>:adopter           string with expiry: token of the adopter
//	<channel>:adopted:<token>   string with expiry: number of an adopter's last batch
//	<channel>:kept              Pub/Sub channel: how many of the next messages are in the stream
//	                            already, and who adopts
//	<channel>:adopters          Pub/Sub channel without messages: its subscribers adopt
//	consumer:<group>:<name>     string with expiry (none for a lasting consumer): the consumer is
//	                            alive. "1", or JSON {"state","why"} of what keeps it from working
//	consumer:<group>:<name>:alive  string with expiry: the same for a lasting consumer
//	stages                      hash: name -> JSON of a stage's or publisher's inputs and outputs
//	progress:<start of an ID>   hash with expiry: rest of the event ID -> a line for each step
//	                            of the tracked event, see line in common.lua
//	progress::hashes            list of these hashes in the order in which they were made
//	progress:                   Pub/Sub channel: "<id> <line>" of all tracked events
//	idempotency:<key>           string: "<event ID> <digest>", for 24 h
//	idempotency-at:<start of an ID>  hash with expiry, 24 h: rest of the event ID, computed
//	                            from a key whose time is known -> ""
//	limit:<name>                string: theoretical arrival time of a rate limit, in ms
//	pipeline                    hash: version, shards, created, secret of computed event IDs
//	heard                       string: Redis' time of the last tick; see judge in tick.lua
//	none                        never exists; see write_first in common.lua
type Names struct {
	Prefix string // of the pipeline; "" by default
	Base   string // Prefix and, in a Redis Cluster, the shard's tag in braces
}

// Of returns the names of a pipeline with one shard.
func Of(prefix string) Names { return Names{Prefix: prefix, Base: prefix} }

// Of a channel: the key of its stream, the Pub/Sub channel, and the others.

func (n Names) Stream(channel string) string   { return n.Base + channel }
func (n Names) Live(channel string) string     { return n.Prefix + channel }
func (n Names) Kept(channel string) string     { return n.Live(channel) + ":kept" }
func (n Names) Adopters(channel string) string { return n.Live(channel) + ":adopters" }
func (n Names) Dead(channel string) string     { return n.Stream(channel) + ":dead" }
func (n Names) Due(channel string) string      { return n.Stream(channel) + ":due" }
func (n Names) Groups(channel string) string   { return n.Stream(channel) + ":groups" }
func (n Names) Floors(channel string) string   { return n.Stream(channel) + ":floors" }
func (n Names) Adopter(channel string) string  { return n.Stream(channel) + ":adopter" }
func (n Names) Adopted(channel, token string) string {
	return n.Stream(channel) + ":adopted:" + token
}

// Sharded names what adopters from the sharded Pub/Sub channel of the same name have: Adopter(""),
// a key, and Stream(":kept"), a sharded channel. Both are in the channel's slot.
func (n Names) Sharded(channel string) Names {
	return Names{Prefix: n.Prefix, Base: "{" + n.Live(channel) + "}"}
}

// Of the pipeline.

func (n Names) Consumer(group, name string) string { return n.Base + "consumer:" + group + ":" + name }
func (n Names) Stages() string                     { return n.Base + "stages" }
func (n Names) Watchers() string                   { return n.Prefix + "progress:" }
func (n Names) Pipeline() string                   { return n.Prefix + "pipeline" }
func (n Names) Heard() string                      { return n.Base + "heard" }
func (n Names) None() string                       { return n.Base + "none" }
func (n Names) Idempotency(key string) string      { return n.Base + "idempotency:" + key }
func (n Names) Limit(name string) string           { return n.Base + "limit:" + name }

// IdempotencyAt is the hash, and its field, of an event ID that was computed from a key.
func (n Names) IdempotencyAt(id string) (key, field string) {
	return n.Base + "idempotency-at:" + id[:10], id[10:]
}

// Progress is the hash that has the progress of an event, and its field there. The IDs of 4 s, if
// they are UUIDv7, begin with the same 10 characters and share a hash.
func (n Names) Progress(id string) (key, field string) {
	start := min(10, len(id))
	return n.Base + "progress:" + id[:start], id[start:]
}

// Alone is a field of <channel>:groups.
func Alone(group, consumer string) string { return "alone:" + group + ":" + consumer }

// Starts is a field of <channel>:groups.
func Starts(group, consumer string) string { return "starts:" + group + ":" + consumer }
