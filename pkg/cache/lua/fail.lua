-- Ends a load that failed: the lock becomes a note that keeps everybody from trying again at once.
-- KEYS  1 lock
-- ARGV  1 token  2 "!" and why it failed  3 how long the note stays, in ms
-- Reply 1 if the note was left, 0 if the lock was no longer the caller's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
