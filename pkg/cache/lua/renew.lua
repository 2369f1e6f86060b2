-- Keeps the lock of a load that is under way.
-- KEYS  1 lock
-- ARGV  1 token  2 lease in ms
-- Reply 1 if the lock is still the caller's, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
	return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
