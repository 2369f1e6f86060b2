-- Takes a shard of a Redis Cluster for a lasting consumer, or gives it up. The field writer:<group>
-- of <channel>:groups is "<consumer>", the shard's writer; "<consumer> taking" until all replicas
-- are known to have that; "<consumer> free" once it has given the shard up. Its last writer takes
-- it again without asking the replicas: to all of them it is that one's.
-- KEYS  1 channel  2 <channel>:groups
-- ARGV  1 group  2 consumer  3 'take'; 'keep', after all replicas had the taking; 'check', whether
--       nothing is pending and the shard may be given up; 'free', after all replicas had all of
--       that; 'look'
-- Reply 'mine', 'taking', 'pending' (what is pending keeps it from being given up), 'free', or the
--       name of another writer
write_first()
local bad = wrong_of(KEYS[1], '', ':groups')
if bad then return refusal(bad) end
local group, consumer, what = ARGV[1], ARGV[2], ARGV[3]
local field = 'writer:' .. group
local name, state = writer_of(redis.call('HGET', KEYS[2], field))
local function set(to, reply)
  redis.call('HSET', KEYS[2], field, to)
  return reply
end
if what == 'take' and state == 'free' then
  if name == consumer then return set(consumer, 'mine') end
  return set(consumer .. ' taking', 'taking')
end
if state == 'free' then return state end
if name ~= consumer then return name end
if what == 'keep' then return set(consumer, 'mine') end
if what == 'take' or what == 'look' then return state == 'taking' and state or 'mine' end
if #redis.call('XPENDING', KEYS[1], group, '-', '+', 1, consumer) > 0 then return 'pending' end
if what == 'free' then return set(consumer .. ' free', 'free') end
return 'mine'
