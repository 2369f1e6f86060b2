-- Moves a group to the end of its stream: what it has not settled counts as settled.
-- KEYS  1 channel  2 <channel>:groups
-- ARGV  1 group
-- Reply entries skipped, or -1 if there is no such group
local group = ARGV[1]
if not in_redis(KEYS[1])[group] then return -1 end
local fields = registered(KEYS[1])
local n = waiting(KEYS[1], fields, group)
redis.call('XGROUP', 'SETID', KEYS[1], group, '$')
while true do
  local ids = redis.call('XPENDING', KEYS[1], group, '-', '+', 500)
  if #ids == 0 then break end
  for _, p in ipairs(ids) do redis.call('XACK', KEYS[1], group, p[1]) end
end
redis.call('HSET', KEYS[2], 'done:' .. group, redis.call('XLEN', KEYS[1]) + tonumber(fields['trimmed'] or '0'))
return n
