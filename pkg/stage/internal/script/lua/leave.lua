-- Hands a stopping consumer's pending entries back to its group, and deletes the consumer when it
-- has none.
-- KEYS  1 channel
-- ARGV  1 group  2 consumer  3 most entries in one call  4 MAX_DEAD
-- Reply entries handed back; call again while it is not 0
write_first()
local bad = wrong_of(KEYS[1], '', ':groups', ':dead')
if bad then return refusal(bad) end
if not in_redis(KEYS[1])[ARGV[1]] then return 0 end
local n = requeue(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), nil)
if n == 0 and forget(KEYS[1], ARGV[1], ARGV[2]) then
  local field = 'writer:' .. ARGV[1]
  if writer(redis.call('HGET', KEYS[1] .. ':groups', field)) == ARGV[2] then
    redis.call('HDEL', KEYS[1] .. ':groups', field)
  end
end
return n
