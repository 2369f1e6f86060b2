-- Begins a load, unless somebody else was faster.
-- KEYS  1 entry  2 lock
-- ARGV  1 token  2 lease in ms  3 the entry as the caller saw it, "" for none
-- Reply {state, text}:
--   moved   the entry is another one by now: text
--   locked  the lock is the caller's, which now loads
--   busy    somebody else is loading
--   failed  somebody's load failed a moment ago: text is why
local entry = redis.call('GET', KEYS[1]) or ''
if entry ~= ARGV[3] then
	return { 'moved', entry }
end
local held = redis.call('GET', KEYS[2])
if not held then
	redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
	return { 'locked', '' }
end
if string.sub(held, 1, 1) == '!' then
	return { 'failed', string.sub(held, 2) }
end
return { 'busy', '' }
