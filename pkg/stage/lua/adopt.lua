-- Puts messages that were only published into the stream; the channel has had them already.
-- KEYS  1 channel
-- ARGV  1 number of messages; for each: event ID, payload
-- Reply the number added
local now = string.format('%.0f', now_ms())
for m = 1, tonumber(ARGV[1]) do
  redis.call('XADD', KEYS[1], '*', 'payload', ARGV[2 * m + 1], 'id', ARGV[2 * m], 'at', now, 'adopted', '1')
end
return tonumber(ARGV[1])
