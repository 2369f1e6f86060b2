-- Ends a load: keeps what it brought and gives the lock back, if the lock is still the caller's. It is not when the entry
-- was dropped meanwhile, and what was loaded may then be older than the drop.
-- KEYS  1 entry  2 lock
-- ARGV  1 token  2 new entry  3 how long to keep it, in ms
-- Reply 1 if it was kept, else 0.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
