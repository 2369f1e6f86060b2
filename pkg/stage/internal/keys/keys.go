// Package keys names everything that a pipeline has in Redis.
package keys

// All keys of a pipeline. A channel's name is also the key of its stream; what belongs to it has that name and a suffix.
// The scripts build the suffixed ones themselves, from the same words.
//
//	<channel>                   stream of entries, kept until every group has settled them
//	<channel>:dead              stream of dead letters
//	<channel>:due               sorted set: retries not yet due, by due time in ms; a member is the entry, see lua/common.lua
//	<channel>:groups            hash, with these fields:
//	    policy:<group>          "required" or "optional"
//	    done:<group>            entries the group has settled, counted as if from the stream's first
//	    lost:<group>            entries an optional group was trimmed past
//	    alone:<group>:<consumer>  "<entry ID> <times>": the entry this consumer handles alone
//	    starts:<group>:<consumer> starts of a lasting consumer since it last got through its own pending entries
//	    trimmed                 entries trimmed from the stream; XLEN + trimmed - done is a group's backlog
//	<channel>:floors            hash: group -> the entry ID up to which it has settled everything
//	<channel>:adopter           string: token of the adopter, with expiry
//	<channel>:kept              no key but a channel: how many of the next messages are kept, and who adopts
//	<channel>:adopters          no key but a channel, on which nothing comes: who subscribes to it adopts from <channel>
//	consumer:<group>:<name>     string: liveness of a consumer, with expiry; without expiry for a lasting one. "1", or what
//	                            keeps the consumer from working
//	consumer:<group>:<name>:alive  string: a lasting consumer is running, with expiry; its value is as above
//	stages                      hash: name -> JSON of a stage's or publisher's inputs and outputs
//	progress:<id>               hash: stage -> JSON of its step for a tracked event, for an hour; also a channel
//	idempotency:<key>           string: "<event ID> <digest>", for 24 h
//	limit:<name>                string: theoretical arrival time of a rate limit, in ms
type Names struct{}

// Stages is the registry.
func (Names) Stages() string { return "stages" }

func (Names) Kept(channel string) string     { return channel + ":kept" }
func (Names) Adopters(channel string) string { return channel + ":adopters" }
func (Names) Dead(channel string) string     { return channel + ":dead" }
func (Names) Due(channel string) string      { return channel + ":due" }
func (Names) Groups(channel string) string   { return channel + ":groups" }
func (Names) Floors(channel string) string   { return channel + ":floors" }
func (Names) Adopter(channel string) string  { return channel + ":adopter" }
func (Names) Consumer(group, name string) string {
	return "consumer:" + group + ":" + name
}
func (Names) Progress(id string) string     { return "progress:" + id }
func (Names) Idempotency(key string) string { return "idempotency:" + key }
func (Names) Limit(name string) string      { return "limit:" + name }
