-- Registers a consumer: its liveness, its stage, and its group. A group that does not exist is made
-- at its stored floor, or at the start of the stream if there is none that can be true.
-- KEYS  1 channel  2 <channel>:groups  3 <channel>:floors  4 stages  5 consumer:<group>:<name>
-- ARGV  1 group  2 consumer  3 policy  4 LEASE (ms)  5 stage's JSON  6 '1' for a lasting consumer
--       7 '1' if this is the start of a process and not a reconnect
-- Reply JSON: made (the group was made), starts (unfinished starts of a lasting consumer)
write_first()
local bad = wrong_of(KEYS[1], '', ':groups', ':floors') or wrong(KEYS[4], 'hash')
if bad then return refusal(bad) end
local group, consumer, policy, lease, about = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lasting, first = ARGV[6] == '1', ARGV[7] == '1'
local made = not in_redis(KEYS[1])[group]
if made then redis.call('XGROUP', 'CREATE', KEYS[1], group, stored_floor(KEYS[1], group), 'MKSTREAM') end
if made or not redis.call('HGET', KEYS[2], 'done:' .. group) then -- another program may have made the group
  redis.call('HSET', KEYS[2], 'done:' .. group, redis.call('HGET', KEYS[2], 'trimmed') or '0')
end
redis.call('HSET', KEYS[2], 'policy:' .. group, policy)
redis.call('HSET', KEYS[4], group, about)
if lasting then
  redis.call('SET', KEYS[5], '1')
  redis.call('SET', KEYS[5] .. ':alive', '1', 'PX', lease)
else
  redis.call('SET', KEYS[5], '1', 'PX', lease)
end
redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], group, consumer)
local starts = 0
if lasting and first then starts = redis.call('HINCRBY', KEYS[2], 'starts:' .. group .. ':' .. consumer, 1) end
return json({made = made, starts = starts})
