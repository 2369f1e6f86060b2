-- Puts messages that were only published into the stream; the channel has had them already.
-- KEYS  1 channel
-- ARGV  1 number of messages; for each: event ID, payload, traceparent or ''
-- Reply the number added
local now = string.format('%.0f', now_ms())
for m = 1, tonumber(ARGV[1]) do
  local entry = {'payload', ARGV[3 * m], 'id', ARGV[3 * m - 1], 'at', now, 'adopted', '1'}
  if ARGV[3 * m + 1] ~= '' then
    entry[9], entry[10] = 'traceparent', ARGV[3 * m + 1]
  end
  redis.call('XADD', KEYS[1], '*', unpack(entry))
end
return tonumber(ARGV[1])
