// Package stage makes Redis Pub/Sub channels that lose nothing, double nothing and scale by adding replicas.
//
// A stage reads one channel, does something with each event and forwards what it made of it to other channels. Every
// publish does two things in one Lua script: it appends the payload to the stream whose key is the channel's name, where
// it is kept until every consumer group has settled it, and it publishes the same bytes on the channel, for whoever
// listens now (larger batches only if somebody does). Stages work from the stream; the channel stays what it always was in
// Redis.
//
// A handler returns values and errors and never touches Redis. What it returns decides what becomes of the entry:
//
//	output(s)                  acked and forwarded, in one script
//	nothing                    acked
//	[Permanent] error          a dead letter at once, acked
//	[RetryAfter] error         due again after the time it names
//	[Down] error               the stage pauses until its probe succeeds; nothing is counted against the entry
//	any other error            due again after a backoff with jitter; a dead letter after Config.MaxTries
//
// A handler may see an event more than once (its process died before the entry was settled), so its effect must be
// idempotent by [Event.ID]. Forwarding needs no such care: an entry is settled, and its outputs appear, exactly once.
//
// The keys of a pipeline are listed in internal/keys; the scripts, each with its KEYS, ARGV and reply, are in
// internal/script/lua. Package inspect is what tools ask.
package stage
