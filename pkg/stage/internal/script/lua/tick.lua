-- The chores of one consumer, once a second: renews its liveness and its adoption, moves retries
-- that are due, takes over from consumers that are gone, trims, and reports.
-- KEYS  1 channel  2 consumer:<group>:<name>  3 <channel>:adopter; then the output channels
-- ARGV  1 group  2 consumer  3 LEASE (ms)  4 adopter's token or ''  5 MAX_BACKLOG  6 MAX_DEAD
--       7 crashes that make a dead letter
--       8 most entries to move in one call  9 for each output '1' if it is unread, else '0', in one
--       string  10 '1' for a lasting consumer  11 '1' if it works, else JSON of what prevents it
--       12 Redis' time (ms) of this process's last tick, '0' if there was none
-- Reply JSON: known (false: this consumer or its group is not known, nothing was done, join again)
--       adopter ('mine', 'free' or 'other'), more (there is more to move at once)
--       taken_over (consumers taken over from now), full (indices of the full outputs, from 1)
--       backlog, pending, oldest (ID of the oldest unsettled entry), due, dead, lost
--       consumers (of this group), all_consumers (of all groups of the channel)
--       writer (whom the shard belongs to, if consumers are lasting, on a Redis Cluster)
--       waits (true: it is not alive, or there is none)
--       at (Redis' time, ms), next (ms until a consumer may have to be taken over, if that is
--       before the next tick)
local channel, group, consumer, lease, token = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local max, max_dead, max_crashes, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local unread, lasting, works, seen = ARGV[9], ARGV[10] == '1', ARGV[11], tonumber(ARGV[12])

-- renew() -> whether the consumer is known, and whether its liveness key was still there.
local function renew()
  if lasting then
    redis.call('PERSIST', KEYS[2])
    if redis.call('EXISTS', KEYS[2]) == 0 then return false, false end
    local alive = redis.call('PEXPIRE', KEYS[2] .. ':alive', lease) == 1
    redis.call('SET', KEYS[2] .. ':alive', works, 'PX', lease)
    return true, alive
  end
  if redis.call('PEXPIRE', KEYS[2], lease) == 0 then return false, false end
  if redis.pcall('GET', KEYS[2]) ~= works then redis.call('SET', KEYS[2], works, 'PX', lease) end
  return true, true
end

-- judge(now) -> ms until consumers may be declared gone, and whether that counts as their crash.
-- <base>heard is "<last> <after> <lived>": Redis' time of the last tick of any consumer, the time
-- of the first tick after the last gap between ticks, and '1' if a consumer that ran before that
-- gap ticked after it. In a gap Redis was away, or stood still, or its clock was set, so it says
-- nothing about a consumer. If nobody lived through it, no consumer was running.
local GAP, MARGIN, FORGIVEN = 1500, 2000, 60000 -- ms
local function judge(now)
  local last, after, lived = string.match(redis.call('GET', base .. 'heard') or '', '^(%d+) (%d+) (%d)$')
  last, after, lived = tonumber(last or 0), tonumber(after or 0), lived or '0'
  if last > 0 and math.abs(now - last) > GAP then after, lived = now, '0' end
  if seen > 0 and (seen < after - GAP or seen > now + GAP) then lived = '1' end
  redis.call('SET', base .. 'heard', string.format('%.0f %.0f %s', now, after, lived))
  return after + lease + MARGIN - now, lived == '1' and now - after < FORGIVEN
end

-- adopter() -> who adopts; renews our own adoption. One that would last longer than a lease, which
-- another program has set, lasts a lease from now on.
local function adopter()
  local owner, left = redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3])
  if not owner then return 'free' end
  if owner == token or left == -1 or left > lease then redis.call('PEXPIRE', KEYS[3], lease) end
  return owner == token and 'mine' or 'other'
end

-- move_due() -> whether there may be more retries that are due.
local function move_due()
  local now, moved, bytes, step = string.format('%.0f', now_ms()), 0, 0, 16
  while moved < most and bytes < BATCH do
    local due = redis.call('ZRANGEBYSCORE', channel .. ':due', '-inf', now, 'LIMIT', 0, step)
    for _, member in ipairs(due) do
      redis.call('ZREM', channel .. ':due', member)
      redis.call('XADD', channel, '*', unpack(unpack_list(member)))
      bytes = bytes + #member
    end
    moved = moved + #due
    if #due < step then return false end
  end
  return true
end

-- take_over(wait, forgiven) -> consumers that were taken over from, whether there is more to take
-- over, and the ms until there may be. wait and forgiven are judge's reply.
local function take_over(wait, forgiven)
  local taken, more, room, next = 0, false, most, 1000
  for _, c in ipairs(consumers(channel, group)) do
    local left = redis.call('PTTL', consumer_key(group, c.name))
    if c.name == consumer or left == -1 then
      left = next
    elseif left == -2 and wait <= 0 then
      left = next
      if room > 0 then room = room - requeue(channel, group, c.name, room, max_dead, not forgiven and max_crashes or nil) end
      if forget(channel, group, c.name) then taken = taken + 1 else more = true end
    end
    next = math.min(next, math.max(left, wait, 1))
  end
  return taken, more, next < 1000 and next or nil
end

local known, alive = renew()
local bad = wrong_of(channel, '', ':groups', ':floors', ':due', ':dead', ':adopter') or wrong(base .. 'heard', 'string')
for i = 4, #KEYS do bad = bad or wrong_of(KEYS[i], '', ':groups', ':floors', ':due') end
if bad then return refusal(bad) end
if not known or not in_redis(channel)[group] then return json({known = false}) end
local now = now_ms()
local out = {known = true, at = now, adopter = adopter(), more = move_due(), taken_over = 0, full = {}}
local wait, forgiven = judge(now)
if alive then
  local taken, more
  taken, more, out.next = take_over(wait, forgiven)
  out.taken_over, out.more = taken, out.more or more
end
if lasting and cluster then
  out.writer = writer(redis.call('HGET', channel .. ':groups', 'writer:' .. group))
  out.waits = not out.writer or liveness(group, out.writer) ~= 'alive'
  -- A call that came too late may have left an entry to a consumer that had given the shard up.
  if out.writer ~= consumer then requeue(channel, group, consumer, most, max_dead, nil) end
end
trim(channel, max)

local fields, there = readers(channel)
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
