-- Ends a group that no process runs: its pending entries are given up, and trimming no longer waits
-- for it.
-- KEYS  1 channel  2 <channel>:groups  3 <channel>:floors  4 stages
-- ARGV  1 group
-- Reply 1, 0 if there is no such group, or -1 if consumers of it are alive
local bad = wrong_of(KEYS[1], '', ':groups', ':floors') or wrong(KEYS[4], 'hash')
if bad then return refusal(bad) end
local group = ARGV[1]
local there = in_redis(KEYS[1])[group]
if not there and not redis.call('HGET', KEYS[2], 'policy:' .. group) then return 0 end
if there then
  local members = consumers(KEYS[1], group)
  for _, c in ipairs(members) do
    if liveness(group, c.name) == 'alive' then return -1 end
  end
  for _, c in ipairs(members) do redis.call('DEL', consumer_key(group, c.name)) end
  redis.call('XGROUP', 'DESTROY', KEYS[1], group)
end
for name in pairs(registered(KEYS[1])) do
  local _, g = string.match(name, '^(%a+):([^:]+)')
  if g == group then redis.call('HDEL', KEYS[2], name) end
end
redis.call('HDEL', KEYS[3], group)
redis.call('HDEL', KEYS[4], group)
local _, _, groups = readers(KEYS[1])
if #groups == 0 then redis.call('DEL', KEYS[2]) end
return 1
