-- Notes that a consumer is about to handle an entry alone: if it dies, this entry is the cause.
-- KEYS  1 <channel>:groups
-- ARGV  1 group  2 consumer  3 entry ID
-- Reply how often this consumer has begun to handle this entry alone, this time included
write_first()
local bad = wrong(KEYS[1], 'hash')
if bad then return refusal(bad) end
local field = 'alone:' .. ARGV[1] .. ':' .. ARGV[2]
local id, times = string.match(redis.call('HGET', KEYS[1], field) or '', '^(%S+) (%d+)$')
times = id == ARGV[3] and tonumber(times) + 1 or 1
redis.call('HSET', KEYS[1], field, ARGV[3] .. ' ' .. times)
return times
