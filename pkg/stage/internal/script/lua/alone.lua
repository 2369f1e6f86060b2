-- Notes that a consumer is about to handle an entry alone, so that its death can be laid at this entry's door.
-- KEYS  1 <channel>:groups
-- ARGV  1 group  2 consumer  3 entry ID
-- Reply how often this consumer has begun to handle this entry alone, this time included
local key = 'alone:' .. ARGV[1] .. ':' .. ARGV[2]
write_first()
local id, times = string.match(redis.call('HGET', KEYS[1], key) or '', '^(%S+) (%d+)$')
times = id == ARGV[3] and tonumber(times) + 1 or 1
redis.call('HSET', KEYS[1], key, ARGV[3] .. ' ' .. times)
return times
