-- Takes a shard of a Redis Cluster for a lasting consumer, or gives it up. The field writer:<group>
-- of <channel>:groups is "<consumer> <since>", the shard's writer and when it took it from another
-- one (ms). "taking" follows until all replicas are known to have that, "free" once it has given
-- the shard up. Its last writer takes it again without asking the replicas: to all of them it is
-- that one's.
-- KEYS  1 channel  2 <channel>:groups
-- ARGV  1 group  2 consumer  3 'take'; 'keep', after all replicas had the taking; 'check', whether
--       nothing is pending and the shard may be given up; 'free', after all replicas had all of
--       that; 'look'
-- Reply JSON: state ('mine', 'taking', 'free', 'pending' if what is pending keeps it from being
--       given up, 'other'), since (ms; of 'mine' and 'taking'), writer (whose it is; of 'other')
write_first()
local bad = wrong_of(KEYS[1], '', ':groups')
if bad then return refusal(bad) end
local group, consumer, what = ARGV[1], ARGV[2], ARGV[3]
local field = 'writer:' .. group
local name, state, since = last_writer(redis.call('HGET', KEYS[2], field))
local function set(to)
  name, state = consumer, to
  redis.call('HSET', KEYS[2], field, consumer .. ' ' .. since .. (to == '' and '' or ' ' .. to))
end
if what == 'take' and state == 'free' then
  local again = name == consumer
  if not again then since = string.format('%.0f', now_ms()) end
  set(again and '' or 'taking')
end
local function reply(state) return json({state = state, since = tonumber(since)}) end
if state == 'free' then return reply(state) end
if name ~= consumer then return json({state = 'other', writer = name}) end
if what == 'check' or what == 'free' then
  if #redis.call('XPENDING', KEYS[1], group, '-', '+', 1, consumer) > 0 then return reply('pending') end
  if what == 'check' then return reply('mine') end
  set('free')
elseif what == 'keep' then
  set('')
end
return reply(state == '' and 'mine' or state)
