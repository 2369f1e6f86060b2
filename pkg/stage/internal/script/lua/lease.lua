-- Takes the lease of adopting from a channel, or gives it up. The order of messages on
-- <channel>:kept decides which messages an adopter adopts.
-- KEYS  1 <channel>:adopter  2 channel, not of a sharded one
-- ARGV  1 token  2 LEASE (ms), '0' to give it up  3 PUBLISH or SPUBLISH, by which the marker is
--       published, or ''  4 <channel>:kept
-- Reply JSON: owned (false if another token has it), consumers (of all groups of the channel)
write_first()
local bad = wrong(KEYS[1], 'string')
if bad then return refusal(bad) end
local token, lease = ARGV[1], ARGV[2]
local owner = redis.call('GET', KEYS[1])
local owned = not owner or owner == token
if owned and lease == '0' then
  redis.call('DEL', KEYS[1])
elseif owned then
  redis.call('SET', KEYS[1], token, 'PX', lease)
  if ARGV[3] ~= '' then redis.call(ARGV[3], ARGV[4], 'owner:' .. token) end
end
return json({owned = owned, consumers = KEYS[2] and all_consumers(in_redis(KEYS[2]))})
