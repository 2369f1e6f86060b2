// Package stage gives Redis Pub/Sub channels durable, effectively-once delivery, shared among
// replicas.
//
// A stage reads one channel, calls a handler for each event, and forwards what the handler returns
// to other channels. Stages know only the names of channels: a pipeline grows by starting another
// program. All it needs is one Redis.
//
// # A channel and its stream
//
// A channel is an ordinary Pub/Sub channel: live, at most once. One script publishes a message on
// it and appends the same bytes, as an entry, to the stream whose key is the channel's name. Stages
// work from the stream, where an entry is kept until every consumer group has settled it. Other
// programs may listen to the channel, and a message that another program only publishes is adopted:
// a stage puts it into the stream (adopt.go). What only adopters would hear is not published.
//
// # The life of an entry
//
//  1. Publish: a [Publisher] at the edge gives the event its ID, which never changes, and keeps it
//     in the stream.
//  2. Read: a stage's group delivers the entry to one of its replicas, for which it is pending.
//  3. Handle: the handler gets the event and returns outputs or an error.
//  4. Settle: one script acks the entry and, only if Redis answers that this was the first ack,
//     appends and publishes the outputs, or writes the dead letter. So a second run of the same
//     entry forwards nothing.
//  5. Trim: what every group has settled is removed.
//
// A replica that stops hands back what it has not settled. From one that falls silent for
// [Options].Lease the others take over its pending entries. Events have no order.
//
// # Handlers
//
// [Each] handles one event a call, [EachTo] can forward to several outputs, and [Batch] gets the
// events that have gathered, for one InsertMany or one query. A payload is JSON, except that a
// string or []byte type is the bare bytes; a type with a Validate method is asked too
// ([Validator]). A handler never touches Redis. It must keep to two rules:
//
//   - Its effect is idempotent by [Event].ID: after a crash the event is handled again.
//   - It returns soon after its context ends ([Config].Timeout, or the end of a drain). One that
//     does not is left behind, and its events count as failed.
//
// # Errors and what becomes of the entry
//
//	outputs, nil       acked and forwarded, in one script
//	Permanent(err)     a dead letter at once; so is a payload that cannot be decoded
//	RetryAfter(err, d) tried again after d; counts as a try
//	Down(err)          the stage pauses until Config.Probe succeeds; nothing is counted
//	any other error    as Down if Config.Probe fails; else tried again after a backoff
//
// After Config.MaxTries errors an entry becomes a dead letter, which package inspect lists and
// replays. An outage is not a failure: while Redis is away all wait, and return to work by
// themselves. An entry that failed twice is handled in a call of its own, so it cannot fail its
// batch mates. One that may have ended two processes is handled while nothing else is.
//
// A publisher gets [ErrBacklog] when a group is too far behind, and a stage stops reading while an
// output is full. So pressure travels from stage to stage to the edge. A group that is
// [Config].Optional never blocks publishing.
//
// # Running
//
// [Open] makes a [Broker] without connecting, [Broker.New] a stage, and [Stage.Run] runs it until
// its context is cancelled; then it drains. [Stage.Ready] says what a stage waits for. Register the
// Broker with Prometheus for metrics; [Options].Tracer makes spans. [Broker.Watcher] follows single
// events through the pipeline.
//
// # Testing
//
// Call a handler's function with an Event you made. For a whole stage, package stagetest starts an
// embedded or a real Redis, and its Eventually waits with a deadline: see the example "Test". The
// build tag killpoints ends a program at a named point (package killpoint).
//
// # Where things are
//
// This package is the runtime. Its files, in the order in which an entry meets them: publish.go,
// lane.go (a stage's work on one shard), read.go, hand.go, queue.go, work.go (handling), settle.go,
// tick.go (chores), adopt.go, run.go (start and drain); for a Redis Cluster shard.go, cluster.go,
// feed.go and writer.go. Package inspect is for tools. internal/keys lists every key,
// internal/script has the Lua scripts with their arguments and replies, internal/poison the rule
// for entries that end processes. ARCHITECTURE.md at the root goes through all of it.
package stage
