-- Makes a consumer known: its liveness, its group (at its floor, or at the start of the stream) and its stage.
-- KEYS  1 channel  2 <channel>:groups  3 <channel>:floors  4 stages  5 consumer:<group>:<name>
-- ARGV  1 group  2 consumer  3 policy  4 LEASE (ms)  5 stage's JSON  6 '1' for a lasting consumer
--       7 '1' if this is the start of a process and not a reconnect
-- Reply {1 if the group was made, starts of a lasting consumer since it last got through its own pending entries}
write_first()
local kind = redis.call('TYPE', KEYS[1])
kind = type(kind) == 'table' and kind.ok or kind
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('WRONGINPUT the key ' .. KEYS[1] .. ' is a ' .. kind .. ', not a stream')
end
local group, consumer, made = ARGV[1], ARGV[2], 0
if not in_redis(KEYS[1])[group] then
  redis.call('XGROUP', 'CREATE', KEYS[1], group, redis.call('HGET', KEYS[3], group) or '0', 'MKSTREAM')
  redis.call('HSET', KEYS[2], 'done:' .. group, redis.call('HGET', KEYS[2], 'trimmed') or '0')
  made = 1
end
if redis.call('HGET', KEYS[2], 'policy:' .. group) ~= ARGV[3] then redis.call('HSET', KEYS[2], 'policy:' .. group, ARGV[3]) end
if redis.call('HGET', KEYS[4], group) ~= ARGV[5] then redis.call('HSET', KEYS[4], group, ARGV[5]) end
local lasting = ARGV[6] == '1'
if lasting then
  redis.call('SET', KEYS[5], '1')
  redis.call('SET', KEYS[5] .. ':alive', '1', 'PX', ARGV[4])
else
  redis.call('SET', KEYS[5], '1', 'PX', ARGV[4])
end
redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], group, consumer)
local starts = 0
if lasting and ARGV[7] == '1' then starts = redis.call('HINCRBY', KEYS[2], 'starts:' .. group .. ':' .. consumer, 1) end
return {made, starts}
