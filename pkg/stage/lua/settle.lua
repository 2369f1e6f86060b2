-- Settles a batch of a group's entries. Each is acked first, and only if XACK answers 1 is anything done for it, so that a
-- second run forwards nothing. A retry or a dead letter is done only by the entry's present owner.
-- KEYS  1 channel  2 <channel>:groups  3 <channel>:due  4 <channel>:dead; then the output channels
-- ARGV  1 group  2 consumer  3 MAX_BACKLOG  4 MAX_DEAD  5 number of outputs; for each: '0', or for an unread one
--       KEEP_ENTRIES; then the number of entries; for each: entry ID, what becomes of it, and
--       'f' (forward): id, at, traceparent, track, progress (JSON or ''), number of messages;
--                      for each: index of the output (from 1), payload
--       'r' (retry):   delay in ms, fields of the entry to add, packed as netstrings
--       'd' (dead):    reason, fields of the entry, packed
-- Reply {list with 1 for each entry settled here and 0 for one that was settled elsewhere or is not ours, or -1 for one
--       restored because a forward failed; list with 1 for each output that is full; error of the last failed forward or ''}
local channel, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local max, max_dead, nout = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local keep, batches, a = {}, {}, 6
for o = 1, nout do
  local kind = redis.call('TYPE', KEYS[4 + o])
  kind = type(kind) == 'table' and kind.ok or kind
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGOUTPUT the key ' .. KEYS[4 + o] .. ' is a ' .. kind .. ', not a stream')
  end
  keep[o] = tonumber(ARGV[a])
  if keep[o] > 0 and redis.call('EXISTS', KEYS[4 + o] .. ':groups') == 1 then keep[o] = 0 end
  batches[o] = {}
  a = a + 1
end
local n, done, acked, problem, steps, now = tonumber(ARGV[a]), {}, 0, '', {}, nil
a = a + 1
local function mine(id)
  local p = redis.call('XPENDING', channel, group, id, id, 1)[1]
  return p and p[2] == consumer
end
for e = 1, n do
  local id, kind = ARGV[a], ARGV[a + 1]
  a = a + 2
  done[e] = 0
  if kind == 'f' then
    local event, at, trace, track, progress, nmsg = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], tonumber(ARGV[a + 5])
    a = a + 6
    if redis.call('XACK', channel, group, id) == 1 then
      done[e] = 1
      local added = {}
      for m = 1, nmsg do
        local o, payload = tonumber(ARGV[a + 2 * m - 2]), ARGV[a + 2 * m - 1]
        local cmd = {'XADD', KEYS[4 + o]}
        if keep[o] > 0 then
          cmd[3], cmd[4], cmd[5] = 'MAXLEN', '~', keep[o]
        end
        local c = #cmd
        cmd[c + 1], cmd[c + 2], cmd[c + 3], cmd[c + 4], cmd[c + 5] = '*', 'payload', payload, 'id', event
        cmd[c + 6], cmd[c + 7] = 'at', at
        c = c + 7
        if trace ~= '' then
          cmd[c + 1], cmd[c + 2] = 'traceparent', trace
          c = c + 2
        end
        if track ~= '' then cmd[c + 1], cmd[c + 2] = 'track', track end
        local r = redis.pcall(unpack(cmd))
        if type(r) == 'table' and r.err then
          problem, done[e] = r.err, -1
          for _, x in ipairs(added) do redis.call('XDEL', x[1], x[2]) end
          redis.call('XCLAIM', channel, group, consumer, 0, id, 'FORCE', 'JUSTID')
          break
        end
        added[m] = {KEYS[4 + o], r, o, payload}
      end
      if done[e] == 1 then
        acked = acked + 1
        local next = {}
        for m, x in ipairs(added) do
          local b = batches[x[3]]
          b[#b + 1] = x[4]
          next[m] = '"' .. x[1] .. '"'
        end
        if track == '1' then
          steps[#steps + 1] = {event, 'done', (#next > 0 and ',"next":[' .. table.concat(next, ',') .. ']' or '') ..
            (progress ~= '' and ',"detail":' .. progress or '')}
        end
      end
    end
    a = a + 2 * nmsg
  else
    local what, fields = ARGV[a], ARGV[a + 1]
    a = a + 2
    if mine(id) and redis.call('XACK', channel, group, id) == 1 then
      done[e] = 1
      acked = acked + 1
      now = now or now_ms()
      local flat = unpack_list(fields)
      if kind == 'r' then
        redis.call('ZADD', KEYS[3], string.format('%.0f', now + tonumber(what)), fields)
        if field(flat, 'track') == '1' then steps[#steps + 1] = {field(flat, 'id'), 'retry', ''} end
      else
        bury(channel, group, flat, what, now, max_dead)
      end
    end
  end
end
if acked > 0 then redis.call('HINCRBY', KEYS[2], 'done:' .. group, acked) end
local fulls = {}
for o = 1, nout do
  local b = batches[o]
  if #b > 0 then
    redis.call('PUBLISH', KEYS[4 + o] .. ':kept', #b)
    for _, payload in ipairs(b) do redis.call('PUBLISH', KEYS[4 + o], payload) end
  end
  fulls[o] = keep[o] == 0 and full(KEYS[4 + o], 0, max) and 1 or 0
end
if #steps > 0 then
  now = now or now_ms()
  for _, s in ipairs(steps) do step(s[1], group, s[2], now, s[3]) end
end
return {done, fulls, problem}
