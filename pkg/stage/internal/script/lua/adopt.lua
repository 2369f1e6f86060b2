-- Appends messages that were only published to the stream. It does not publish them again.
-- KEYS  1 channel
-- ARGV  1 number of messages; for each: event ID, payload, traceparent or ''
-- Reply the number added
local bad = wrong_of(KEYS[1], '')
if bad then return refusal(bad) end
local now = string.format('%.0f', now_ms())
for m = 1, tonumber(ARGV[1]) do
  local id, payload, trace = ARGV[3 * m - 1], ARGV[3 * m], ARGV[3 * m + 1]
  local entry = {'payload', payload, 'id', id, 'at', now, 'adopted', '1'}
  put(entry, 'traceparent', trace)
  redis.call('XADD', KEYS[1], '*', unpack(entry))
end
return tonumber(ARGV[1])
