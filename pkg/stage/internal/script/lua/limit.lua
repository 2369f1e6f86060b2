-- Counts a message against a rate limit whose key is in another shard than the message.
-- KEYS  1 limit:<name>
-- ARGV  1 index in KEYS of the limit's key, '1'  2 max  3 period (ms)
-- Reply 1 if it is within the limit, else JSON as that of publish
local now, tats = now_ms(), {}
local refused = limited(1, 1, now, tats)
if refused then return json(refused) end
use_up(tats, now)
return 1
