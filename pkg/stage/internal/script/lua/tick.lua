-- The chores of one consumer, once a second: renews its liveness and its adoption, moves retries
-- that are due, takes over from consumers that are gone, trims, and reports.
-- KEYS  1 channel  2 consumer:<group>:<name>  3 <channel>:adopter; then the output channels
-- ARGV  1 group  2 consumer  3 LEASE (ms)  4 adopter's token or ''  5 MAX_BACKLOG  6 MAX_DEAD
--       7 crashes that make a dead letter, or '' if no consumer may be declared gone
--       8 most entries to move in one call  9 for each output '1' if it is unread, else '0', in one
--       string  10 '1' for a lasting consumer  11 '1' if it works, else JSON of what prevents it
-- Reply JSON: known (false: this consumer or its group is not known, nothing was done, join again)
--       adopter ('mine', 'free' or 'other'), more (there is more to move at once)
--       taken_over (consumers taken over from now), full (indices of the full outputs, from 1)
--       backlog, pending, oldest (ID of the oldest unsettled entry), due, dead, lost
--       consumers (of this group), all_consumers (of all groups of the channel)
local channel, group, consumer, lease, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max, max_dead, max_crashes, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local unread, lasting, works = ARGV[9], ARGV[10] == '1', ARGV[11]

-- renew() -> whether the consumer's liveness was there to be renewed.
local function renew()
  if lasting then
    redis.call('PERSIST', KEYS[2])
    if redis.call('EXISTS', KEYS[2]) == 0 then return false end
    redis.call('SET', KEYS[2] .. ':alive', works, 'PX', lease)
    return true
  end
  if redis.call('PEXPIRE', KEYS[2], lease) == 0 then return false end
  if redis.call('GET', KEYS[2]) ~= works then redis.call('SET', KEYS[2], works, 'PX', lease) end
  return true
end

-- adopter() -> who adopts; renews our own adoption.
local function adopter()
  local owner = redis.call('GET', KEYS[3])
  if not owner then return 'free' end
  if owner ~= token then return 'other' end
  redis.call('PEXPIRE', KEYS[3], lease)
  return 'mine'
end

-- move_due() -> whether there may be more retries that are due.
local function move_due()
  local due = redis.call('ZRANGEBYSCORE', channel .. ':due', '-inf', string.format('%.0f', now_ms()), 'LIMIT', 0, most)
  for _, member in ipairs(due) do
    redis.call('ZREM', channel .. ':due', member)
    redis.call('XADD', channel, '*', unpack(unpack_list(member)))
  end
  return #due == most
end

-- take_over() -> consumers that were taken over from, and whether there is more to take over.
local function take_over()
  local taken, more, room = 0, false, most
  for _, c in ipairs(consumers(channel, group)) do
    if c.name ~= consumer and room > 0 and redis.call('EXISTS', consumer_key(group, c.name)) == 0 then
      room = room - requeue(channel, group, c.name, room, max_dead, max_crashes)
      if forget(channel, group, c.name) then taken = taken + 1 else more = true end
    end
  end
  return taken, more
end

if not renew() or not in_redis(channel)[group] then return json({known = false}) end
local out = {known = true, adopter = adopter(), more = move_due(), taken_over = 0, full = {}}
if max_crashes then
  local taken, more = take_over()
  out.taken_over, out.more = taken, out.more or more
end
trim(channel, max)

local fields, there = registered(channel), in_redis(channel)
local me = there[group]
out.oldest = oldest(channel, group, me.pending, me.last)
if not out.oldest then
  -- Everything is settled. Correct the counters, which miss entries that were removed by hand.
  local all = total(channel, fields)
  if count(fields, 'done:' .. group) ~= all then redis.call('HSET', channel .. ':groups', 'done:' .. group, all) end
  fields['done:' .. group] = all
end
for i = 4, #KEYS do
  local exempt = string.sub(unread, i - 3, i - 3) == '1' and redis.call('EXISTS', KEYS[i] .. ':groups') == 0
  if not exempt and full(KEYS[i], 0, max) then out.full[#out.full + 1] = i - 3 end
end
out.backlog, out.pending, out.lost = waiting(channel, fields, group), me.pending, count(fields, 'lost:' .. group)
out.due, out.dead = redis.call('ZCARD', channel .. ':due'), redis.call('XLEN', channel .. ':dead')
out.consumers, out.all_consumers = me.consumers, all_consumers(there)
return json(out)
