-- Ends a load: writes its entry and releases the lock, if the caller still holds it. The caller does
-- not after a drop, and what it loaded may then be older than the drop.
-- KEYS  1 entry  2 lock
-- ARGV  1 token of the caller  2 new entry  3 its time to live in ms
-- Reply 1 if the entry was written, else 0.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
