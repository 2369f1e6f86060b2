-- Settles a batch of a group's entries. Each is acked first, and only if XACK answers 1 is anything done for it, so that a
-- second run forwards nothing. A retry or a dead letter is done only by the entry's present owner.
-- KEYS  1 channel  2 <channel>:groups  3 <channel>:due  4 <channel>:dead; then the output channels
-- ARGV  1 group  2 consumer  3 MAX_BACKLOG  4 MAX_DEAD  5 number of outputs; for each: '0', or for an unread one
--       KEEP_ENTRIES; then the number of entries; for each: entry ID, what becomes of it, and
--       '0' (ack only):    nothing more
--       '1' to '9' (forward one message to that output, and nothing more): event ID, at, payload
--       'f' (forward):     event ID, at, more, number of messages; for each: index of the output (from 1), payload
--                          more is '' or packed: traceparent, track, progress (JSON), each may be ''
--       'r' (retry):       delay in ms, fields of the entry to add, packed
--       'd' (dead):        reason, fields of the entry, packed
-- Reply {list of the entries (from 1) that were not settled here, because they were settled elsewhere or are not ours;
--       list of those that were restored because a forward failed; error of the last such forward or '';
--       list of the outputs that are full}
local call, pcall = redis.call, redis.pcall
local channel, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local max, max_dead, nout = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local out, plain, keep, batches, a = {}, {}, {}, {}, 6
for o = 1, nout do
  out[o] = KEYS[4 + o]
  local kind = call('TYPE', out[o])
  kind = type(kind) == 'table' and kind.ok or kind
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGOUTPUT the key ' .. out[o] .. ' is a ' .. kind .. ', not a stream')
  end
  keep[o] = tonumber(ARGV[a])
  if keep[o] > 0 and call('EXISTS', out[o] .. ':groups') == 1 then keep[o] = 0 end
  batches[o], plain[tostring(o)] = {}, o
  a = a + 1
end
local acked, elsewhere, restored, problem, steps, now = 0, {}, {}, '', {}, nil

-- add(o, event, at, more, payload) -> what XADD answers: the new entry's ID, or a table with err.
local function add(o, event, at, more, payload)
  local cmd, m = {'XADD', out[o], '*', 'payload', payload, 'id', event, 'at', at}, unpack_list(more)
  if m[1] and m[1] ~= '' then
    cmd[#cmd + 1] = 'traceparent'
    cmd[#cmd + 1] = m[1]
  end
  if m[2] and m[2] ~= '' then
    cmd[#cmd + 1] = 'track'
    cmd[#cmd + 1] = m[2]
  end
  return pcall(unpack(cmd))
end

-- forwarded(event, more, channels): notes the step of a tracked event.
local function forwarded(event, more, channels)
  if more == '' then return end
  local m = unpack_list(more)
  if m[2] ~= '1' then return end
  local rest = #channels > 0 and ',"next":["' .. table.concat(channels, '","') .. '"]' or ''
  if m[3] ~= '' then rest = rest .. ',"detail":' .. m[3] end
  steps[#steps + 1] = {event, 'done', rest}
end

local function restore(e, id, err)
  restored[#restored + 1], problem = e, err
  call('XCLAIM', channel, group, consumer, 0, id, 'FORCE', 'JUSTID')
end

local n = tonumber(ARGV[a])
a = a + 1
for e = 1, n do
  local id, kind = ARGV[a], ARGV[a + 1]
  local o = plain[kind]
  a = a + 2
  if o then
    if call('XACK', channel, group, id) == 1 then
      local payload = ARGV[a + 2]
      local r = pcall('XADD', out[o], '*', 'payload', payload, 'id', ARGV[a], 'at', ARGV[a + 1])
      if type(r) == 'table' then
        restore(e, id, r.err)
      else
        acked = acked + 1
        local b = batches[o]
        b[#b + 1] = payload
      end
    else
      elsewhere[#elsewhere + 1] = e
    end
    a = a + 3
  elseif kind == '0' then
    if call('XACK', channel, group, id) == 1 then acked = acked + 1 else elsewhere[#elsewhere + 1] = e end
  elseif kind == 'r' or kind == 'd' then
    local what, fields = ARGV[a], ARGV[a + 1]
    a = a + 2
    local p = call('XPENDING', channel, group, id, id, 1)[1]
    if p and p[2] == consumer and call('XACK', channel, group, id) == 1 then
      acked = acked + 1
      now = now or now_ms()
      local flat = unpack_list(fields)
      if kind == 'r' then
        call('ZADD', KEYS[3], string.format('%.0f', now + tonumber(what)), fields)
        if field(flat, 'track') == '1' then steps[#steps + 1] = {field(flat, 'id'), 'retry', ''} end
      else
        bury(channel, group, flat, what, now, max_dead)
      end
    else
      elsewhere[#elsewhere + 1] = e
    end
  else
    local event, at, more, nmsg = ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3])
    a = a + 4
    if call('XACK', channel, group, id) == 1 then
      local added, err = {}, nil
      for m = 1, nmsg do
        local r = add(tonumber(ARGV[a + 2 * m - 2]), event, at, more, ARGV[a + 2 * m - 1])
        if type(r) == 'table' then
          err = r.err
          break
        end
        added[m] = r
      end
      if err then
        for m, r in ipairs(added) do call('XDEL', out[tonumber(ARGV[a + 2 * m - 2])], r) end
        restore(e, id, err)
      else
        acked = acked + 1
        local channels = {}
        for m = 1, nmsg do
          local o = tonumber(ARGV[a + 2 * m - 2])
          local b = batches[o]
          b[#b + 1] = ARGV[a + 2 * m - 1]
          channels[m] = channel_name(out[o])
        end
        forwarded(event, more, channels)
      end
    else
      elsewhere[#elsewhere + 1] = e
    end
    a = a + 2 * nmsg
  end
end
if acked > 0 then call('HINCRBY', KEYS[2], 'done:' .. group, acked) end
local fulls = {}
for o = 1, nout do
  local b = batches[o]
  if #b > 0 then
    if keep[o] > 0 then call('XTRIM', out[o], 'MAXLEN', '~', keep[o]) end
    publish(out[o], b)
  end
  if keep[o] == 0 and full(out[o], 0, max) then fulls[#fulls + 1] = o end
end
if #steps > 0 then
  now = now or now_ms()
  for _, s in ipairs(steps) do step(s[1], group, s[2], now, s[3]) end
end
return {elsewhere, restored, problem, fulls}
