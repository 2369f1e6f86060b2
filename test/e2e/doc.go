// Package e2e has no code but tests. They build the shipped programs and run them together, each as
// a process of its own, with a real redis-server and the document store of standalone between them.
//
// What the README promises is tested in the files promise_*_test.go, one promise each:
//
//	promise_exactly_once_*  kills and broken connections under load, with a ledger at the end
//	promise_channels_*      bare PUBLISHes; programs that know only Redis, listening and standing in
//	promise_replicas        shared work, rolling restarts, the standby of email
//	promise_outage_*        Redis, the store or both are away, slow or full; long backlogs
//	promise_bad_entry       entries that cannot be handled
//
// Idempotency keys are in every ledger; pkg/stage and services/web-api test them alone.
//
// any_* run programs and doctor against servers that are set wrongly; acl with the smallest rights.
//
// The other tests hold the documents: documents (how), readme, architecture, stuck_event, metrics,
// trace, refuse_to_start. The rest is what they all use: pipeline (programs, submissions, the log),
// ledger and wire (a connection with faults).
package e2e
