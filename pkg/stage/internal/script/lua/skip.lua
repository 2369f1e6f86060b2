-- Moves a group to the end of its stream: its unsettled entries count as settled.
-- KEYS  1 channel  2 <channel>:groups
-- ARGV  1 group
-- Reply entries skipped, -1 if there is no such group, -2 if consumers of it are alive
local bad = wrong_of(KEYS[1], '', ':groups')
if bad then return refusal(bad) end
local group = ARGV[1]
if not in_redis(KEYS[1])[group] then return -1 end
for _, c in ipairs(consumers(KEYS[1], group)) do
  if liveness(group, c.name) == 'alive' then return -2 end
end
local fields = registered(KEYS[1])
local n = waiting(KEYS[1], fields, group)
redis.call('XGROUP', 'DESTROY', KEYS[1], group) -- its consumers find it gone, and join the new one
redis.call('XGROUP', 'CREATE', KEYS[1], group, '$', 'MKSTREAM')
if fields['done:' .. group] then redis.call('HSET', KEYS[2], 'done:' .. group, total(KEYS[1], fields)) end
return n
