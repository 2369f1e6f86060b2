-- Takes the adoption of a channel, or gives it up. Who owns it is settled by the order of messages on <channel>:kept.
-- KEYS  1 <channel>:adopter  2 channel
-- ARGV  1 token  2 LEASE (ms), '0' to give it up  3 <channel>:kept
-- Reply {1 if the lease was taken or given up, 0 if someone else has it; consumers of all the channel's groups}
write_first()
local known = 0
for _, g in pairs(in_redis(KEYS[2])) do known = known + g.consumers end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {0, known} end
if ARGV[2] == '0' then
  if owner then redis.call('DEL', KEYS[1]) end
  return {1, known}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], 'owner:' .. ARGV[1])
return {1, known}
