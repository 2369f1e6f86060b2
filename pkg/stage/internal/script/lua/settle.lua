-- Settles a batch of a group's entries. Each is acked first, and only if XACK answers 1 anything is
-- done for it: a second run forwards nothing. An entry may be retried or set aside only by the
-- consumer that it is pending for; any consumer may forward it.
-- KEYS  1 channel  2 <channel>:groups  3 <channel>:due; then the output channels
-- ARGV  1 group  2 consumer  3 MAX_BACKLOG  4 MAX_DEAD  5 unseen: '1', '0', or '' if Redis is to be
--       asked  6 number of outputs; for each: '0', or KEEP_ENTRIES for an unread one; number of
--       entries; for each: entry ID, outcome, and
--       '0' (ack only)   nothing
--       '1' to '9' (forward one message to that output, and nothing more)  event ID, at, payload
--       't1' to 't9' (the same, tracked)  event ID, at, payload, detail (JSON) or ''
--       'f' (forward)    event ID, at, more, number of messages; for each: index of the output,
--                        payload. more is '' or packed: traceparent, track, detail (JSON)
--       'r' (retry)      delay in ms, fields of the entry to add, packed
--       'd' (dead)       error, fields of the entry, packed
-- Reply '' if all entries were settled here and there is nothing to tell, else JSON:
--       elsewhere (entries, from 1, that another consumer has settled, or has now)
--       restored (entries that are pending again, because an output refused them)
--       problem (the last output's error), full (indices of the outputs that are full)
--       no_replica (true: Redis has none; only if ARGV did not say so)
local call, pcall = redis.call, redis.pcall
local channel, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local max, max_dead, told, nout = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] ~= '', tonumber(ARGV[6])
if told then unseen = ARGV[5] == '1' end
local out, plain, tracked, keep, batches, a = {}, {}, {}, {}, {}, 7
local bad = wrong_of(channel, '', ':groups', ':due', ':dead')
for o = 1, nout do
  out[o] = KEYS[3 + o]
  bad = bad or wrong_of(out[o], '', ':groups', ':floors', ':due')
  keep[o] = tonumber(ARGV[a])
  batches[o], plain[tostring(o)], tracked['t' .. o] = {}, o, o
  a = a + 1
end
if bad then return refusal(bad) end
local acked, elsewhere, restored, problem, steps, now = 0, {}, {}, nil, {}, nil

-- note(event, state, next, detail): a step, recorded once everything is published.
local function note(event, state, next, detail)
  now = now or now_ms()
  steps[#steps + 1] = event
  steps[#steps + 1] = line(group, state, now, next, detail)
end

-- ack(e, id) -> whether the entry, the eth of the batch, was acked here.
local function ack(e, id)
  if call('XACK', channel, group, id) == 1 then
    acked = acked + 1
    return true
  end
  elsewhere[#elsewhere + 1] = e
end

-- restore(e, id, err): makes an acked entry pending again, since an output refused it.
local function restore(e, id, err)
  acked, problem = acked - 1, err
  restored[#restored + 1] = e
  call('XCLAIM', channel, group, consumer, 0, id, 'FORCE', 'JUSTID')
end

-- forward(e, id): forwards the messages at ARGV[a] of an acked entry.
local function forward(e, id)
  local event, at, more, n = ARGV[a], ARGV[a + 1], unpack_list(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local track, detail, rest = more[2], more[3], {}
  put(rest, 'traceparent', more[1])
  put(rest, 'track', track)
  local added, to = {}, {}
  for m = 1, n do
    to[m] = tonumber(ARGV[a + 2 + 2 * m])
    local r = pcall('XADD', out[to[m]], '*', 'payload', ARGV[a + 3 + 2 * m], 'id', event, 'at', at, unpack(rest))
    if type(r) == 'table' then
      for k, new in ipairs(added) do call('XDEL', out[to[k]], new) end
      return restore(e, id, r.err)
    end
    added[m] = r
  end
  local names = {}
  for m = 1, n do
    local b = batches[to[m]]
    b[#b + 1], names[m] = ARGV[a + 3 + 2 * m], channel_name(out[to[m]])
  end
  if track == '1' then
    note(event, 'd', table.concat(names, ','), detail)
  end
end

-- fail(kind, what, packed): writes the retry or the dead letter of an acked entry.
local function fail(kind, what, packed)
  now = now or now_ms()
  local flat = unpack_list(packed)
  local fields = map(flat)
  if kind == 'd' then
    bury(channel, group, fields, what, now, max_dead)
    return
  end
  call('ZADD', KEYS[3], string.format('%.0f', now + tonumber(what)), packed)
  if fields.track == '1' then note(fields.id, 'r', '', '') end
end

local n = tonumber(ARGV[a])
a = a + 1
for e = 1, n do
  local id, kind = ARGV[a], ARGV[a + 1]
  local o, t = plain[kind], tracked[kind]
  a = a + 2
  if o or t then
    if ack(e, id) then
      local event, payload, r = ARGV[a], ARGV[a + 2], nil
      if o then
        r = pcall('XADD', out[o], '*', 'payload', payload, 'id', event, 'at', ARGV[a + 1])
      else
        r = pcall('XADD', out[t], '*', 'payload', payload, 'id', event, 'at', ARGV[a + 1], 'track', '1')
      end
      if type(r) == 'table' then
        restore(e, id, r.err)
      else
        local b = batches[o or t]
        b[#b + 1] = payload
        if t then note(event, 'd', channel_name(out[t]), ARGV[a + 3]) end
      end
    end
    a = a + (o and 3 or 4)
  elseif kind == '0' then
    ack(e, id)
  elseif kind == 'f' then
    if ack(e, id) then forward(e, id) end
    a = a + 4 + 2 * tonumber(ARGV[a + 3])
  else
    local p = call('XPENDING', channel, group, id, id, 1)[1]
    if p and p[2] ~= consumer then
      elsewhere[#elsewhere + 1] = e
    elseif ack(e, id) then
      fail(kind, ARGV[a], ARGV[a + 1])
    end
    a = a + 2
  end
end
if acked > 0 then call('HINCRBY', KEYS[2], 'done:' .. group, acked) end
local fulls = {}
for o = 1, nout do
  if #batches[o] > 0 then
    if keep[o] > 0 then keep_last(out[o], keep[o], max) end
    publish(out[o], batches[o])
  end
  if keep[o] == 0 and full(out[o], 0, max) then fulls[#fulls + 1] = o end
end
for s = 1, #steps, 2 do step(steps[s], steps[s + 1]) end
local no_replica = not told and unseen == false or nil
if #elsewhere + #restored + #fulls == 0 and not no_replica then return '' end
return json({elsewhere = elsewhere, restored = restored, problem = problem, full = fulls, no_replica = no_replica})
