// Package poison is the rule for entries that fail or kill again and again. No entry may spoil
// batch after batch, or kill process after process. No entry may become a dead letter for a crash
// that another one caused.
//
//  1. After OwnCall errors, and for its last try, an entry has a handler call of its own, so it
//     cannot fail the other entries of a batch. After MaxTries errors it is a dead letter.
//  2. After Alone crashes an entry is handled alone: nothing else runs in its process meanwhile,
//     and Redis notes which entry it is (alone.lua).
//  3. Only an entry that was being handled alone may become a dead letter for crashing: after
//     MaxCrashes crashes in all.
//
// A consumer that dies raises the crashes of all entries that it held (requeue in common.lua). The
// entries of a lasting consumer are never requeued. Instead Redis counts its unfinished starts, and
// how often it began to handle the same entry alone.
package poison

const (
	MaxTries   = 8 // default of stage.Config.MaxTries
	OwnCall    = 2
	Alone      = 2
	MaxCrashes = 5
)

// OwnCallFrom returns the errors after which an entry has a call of its own.
func OwnCallFrom(maxTries int) int { return max(1, min(OwnCall, maxTries-1)) }

// HandledAlone tells whether an entry is handled alone.
func HandledAlone(crashes int) bool { return crashes >= Alone }

// Careful tells whether a lasting consumer handles all that is pending for it alone. starts are its
// unfinished starts, this one included.
func Careful(starts int) bool { return starts > Alone }

// Killed tells whether a lasting consumer's entry is a dead letter. times is how often the consumer
// has begun to handle it alone, this time included; Alone earlier starts ended without a culprit.
func Killed(times int) bool { return times > MaxCrashes-Alone }
