-- Notes that a consumer is about to handle an entry alone: if it dies, this entry is the cause.
-- KEYS  1 <channel>:groups
-- ARGV  1 group  2 consumer  3 entry ID  4 process: a random word
-- Reply how many processes have begun to handle this entry alone, this one included
write_first()
local bad = wrong(KEYS[1], 'hash')
if bad then return refusal(bad) end
local field = 'alone:' .. ARGV[1] .. ':' .. ARGV[2]
local id, times, process = string.match(redis.call('HGET', KEYS[1], field) or '', '^(%S+) (%d+) ?(%S*)$')
if id == ARGV[3] and process == ARGV[4] then return tonumber(times) end -- the reply was lost
times = id == ARGV[3] and tonumber(times) + 1 or 1
redis.call('HSET', KEYS[1], field, ARGV[3] .. ' ' .. times .. ' ' .. ARGV[4])
return times
