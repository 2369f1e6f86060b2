-- The chores of one consumer, once a second: renews its liveness and its adoption, moves retries that are due, takes over
-- from consumers that are gone, trims, and reports.
-- KEYS  1 channel  2 consumer:<group>:<name>  3 <channel>:adopter; then the output channels
-- ARGV  1 group  2 consumer  3 LEASE (ms)  4 adopter's token or ''  5 MAX_BACKLOG
--       6 MAX_DEAD  7 '1' if consumers may be declared gone  8 most entries to move in one call
--       9 for each output '1' if it is an unread one, else '0', in one string  10 '1' for a lasting consumer
--       11 '1' if the consumer works, else what keeps it from working
-- Reply {1 if this consumer and its group are known, else 0 (join again; nothing else was done);
--       adopter: 'mine', 'free' or 'other'; 1 if there is more to move at once, else 0;
--       list with 1 for each output that is full; backlog; pending; oldest unsettled entry ID or ''; retries due later;
--       dead letters; consumers taken over from now; entries lost to trimming; consumers of all the channel's groups;
--       consumers of this one}
local channel, group, consumer, lease, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max, max_dead, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])
if ARGV[10] == '1' then
  redis.call('PERSIST', KEYS[2])
  if redis.call('EXISTS', KEYS[2]) == 0 then return {0} end
  redis.call('SET', KEYS[2] .. ':alive', ARGV[11], 'PX', lease)
elseif redis.call('PEXPIRE', KEYS[2], lease) == 0 then
  return {0}
elseif redis.call('GET', KEYS[2]) ~= ARGV[11] then
  redis.call('SET', KEYS[2], ARGV[11], 'PX', lease)
end
local me = in_redis(channel)[group]
if not me then return {0} end

local adopter = redis.call('GET', KEYS[3])
if not adopter then
  adopter = 'free'
elseif adopter == token then
  redis.call('PEXPIRE', KEYS[3], lease)
  adopter = 'mine'
else
  adopter = 'other'
end

local now, more, taken = now_ms(), 0, 0
local due = redis.call('ZRANGEBYSCORE', channel .. ':due', '-inf', string.format('%.0f', now), 'LIMIT', 0, most)
for _, member in ipairs(due) do
  redis.call('ZREM', channel .. ':due', member)
  redis.call('XADD', channel, '*', unpack(unpack_list(member)))
end
if #due == most then more = 1 end

if ARGV[7] == '1' then
  local left = most
  for _, c in ipairs(consumers(channel, group)) do
    if c['name'] ~= consumer and left > 0 and redis.call('EXISTS', consumer_key(group, c['name'])) == 0 then
      local moved = requeue(channel, group, c['name'], true, left, max_dead)
      left = left - moved
      if forget(channel, group, c['name']) then taken = taken + 1 else more = 1 end
    end
  end
end

trim(channel, max)

local fields = registered(channel)
local there = in_redis(channel)
me = there[group]
local oldest = ''
if me.pending > 0 then
  local p = redis.call('XPENDING', channel, group)
  oldest = p[2] or ''
else
  local last = redis.call('XREVRANGE', channel, '+', '-', 'COUNT', 1)[1]
  if not last or not before(me.last, last[1]) then
    -- Everything is settled: whatever the counters missed (entries removed by hand) is put right.
    local total = redis.call('XLEN', channel) + tonumber(fields['trimmed'] or '0')
    if tonumber(fields['done:' .. group] or '0') ~= total then
      redis.call('HSET', channel .. ':groups', 'done:' .. group, total)
      fields['done:' .. group] = total
    end
  else
    local next = redis.call('XRANGE', channel, '(' .. me.last, '+', 'COUNT', 1)[1]
    oldest = next and next[1] or ''
  end
end
local fulls = {}
for i = 4, #KEYS do
  local unread = string.sub(ARGV[9], i - 3, i - 3) == '1' and redis.call('EXISTS', KEYS[i] .. ':groups') == 0
  fulls[i - 3] = not unread and full(KEYS[i], 0, max) and 1 or 0
end
local known = 0
for _, g in pairs(there) do known = known + g.consumers end
return {1, adopter, more, fulls, waiting(channel, fields, group), me.pending, oldest, redis.call('ZCARD', channel .. ':due'),
  redis.call('XLEN', channel .. ':dead'), taken, tonumber(fields['lost:' .. group] or '0'), known, me.consumers}
