-- Takes the lock of a load, unless the entry has changed or another process holds the lock.
-- KEYS  1 entry  2 lock
-- ARGV  1 token of the caller  2 time to live of the lock in ms
--       3 the entry that the caller read, "" for none
-- Reply the entry ("" for none), and 1 if the caller now holds the lock, else 0.
local entry = redis.call('GET', KEYS[1]) or ''
if entry == ARGV[3] and redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
	return { entry, 1 }
end
return { entry, 0 }
