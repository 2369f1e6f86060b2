-- Appends messages that were only published to the stream. It does not publish them again.
-- KEYS  1 channel  2 <channel>:adopted:<token>
-- ARGV  1 number of the batch: the last one again, whose reply was lost, is not added
--       2 group of the adopter  3 MAX_DEAD  4 number of messages; for each:
--       event ID, payload, traceparent or '', size: '' or that of a payload that is too large; then
--       payload is its begin, and becomes a dead letter of the group
-- Reply the number added
local bad = wrong_of(KEYS[1], '', ':dead')
if bad then return refusal(bad) end
local batch, group, max_dead = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('GET', KEYS[2]) == batch then return 0 end
local ms = now_ms()
local now = string.format('%.0f', ms)
for a = 5, 1 + 4 * tonumber(ARGV[4]), 4 do
  local entry = {'payload', ARGV[a + 1], 'id', ARGV[a], 'at', now, 'adopted', '1'}
  put(entry, 'traceparent', ARGV[a + 2])
  local size = ARGV[a + 3]
  if size == '' then
    redis.call('XADD', KEYS[1], '*', unpack(entry))
  else
    put(entry, 'size', size)
    bury(KEYS[1], group, map(entry), 'a bare PUBLISH of ' .. size .. ' bytes; at most ' .. LETTER .. ' are adopted', ms, max_dead)
  end
end
redis.call('SET', KEYS[2], batch, 'PX', 3600000)
return tonumber(ARGV[4])
