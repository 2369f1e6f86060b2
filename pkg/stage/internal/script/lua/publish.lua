-- Publishes a batch on one channel: each message is kept in the stream, then all are published, their number first.
-- KEYS  1 channel  2 <channel>:groups; then the idempotency and limit keys that ARGV points at
-- ARGV  1 MAX_BACKLOG  2 publisher's name  3 number of messages; then for each message:
--       id, payload, at (ms), '' if there is nothing more, else:
--       '1', traceparent or '', track ('1' or ''), index in KEYS of its idempotency key or '0', digest,
--       number of limits; for each: index in KEYS, max, period (ms)
-- Reply for each message: 1 if it was kept, else a list: {'repeat', id of the first}, {'reused'}, {'full'},
--       {'limit', which limit (from 1), ms until the next one fits} or {'error', Redis' error}
local channel, max, publisher, n = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local a, reply, kept, tracked, now = 4, {}, {}, {}, now_ms()
-- Over the limit, full() trims, and after that write a full Redis would refuse nothing: so it is asked first.
local refused = redis.call('XLEN', channel) + n > max and full_redis()
local is_full = not refused and full(channel, n, max)
for m = 1, n do
  local id, payload, at, more = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local trace, track, key, digest, nlimits = '', '', nil, '', 0
  a = a + 4
  if more ~= '' then
    trace, track, key, digest = ARGV[a], ARGV[a + 1], KEYS[tonumber(ARGV[a + 2])], ARGV[a + 3]
    nlimits = tonumber(ARGV[a + 4])
    a = a + 5
  end
  local answer
  local first = key and redis.call('GET', key)
  if first then
    local first_id, first_digest = string.match(first, '^(%S+) (.*)$')
    answer = first_digest == digest and {'repeat', first_id} or {'reused'}
  elseif refused then
    answer = {'error', refused}
  elseif is_full then
    answer = {'full'}
  end
  -- Rate limits by GCRA: the key holds the theoretical arrival time of the next conforming message.
  local arrivals = {}
  for l = 1, nlimits do
    local k, most, period = KEYS[tonumber(ARGV[a])], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
    a = a + 3
    if not answer then
      local tat = math.max(tonumber(redis.call('GET', k) or '0'), now) + period / most
      if tat - now > period + 0.001 then
        answer = {'limit', l, math.ceil(tat - now - period)}
      else
        arrivals[l] = {k, tat, period}
      end
    end
  end
  if not answer then
    local entry = {'payload', payload, 'id', id, 'at', at}
    if trace ~= '' then
      entry[#entry + 1] = 'traceparent'
      entry[#entry + 1] = trace
    end
    if track ~= '' then
      entry[#entry + 1] = 'track'
      entry[#entry + 1] = track
    end
    local added = redis.pcall('XADD', channel, '*', unpack(entry))
    if type(added) == 'table' and added.err then
      answer = {'error', added.err}
    else
      if key then redis.call('SET', key, id .. ' ' .. digest, 'PX', 86400000) end
      for _, v in ipairs(arrivals) do redis.call('SET', v[1], string.format('%.3f', v[2]), 'PX', math.ceil(v[2] - now) + v[3]) end
      kept[#kept + 1] = payload
      if track ~= '' then tracked[#tracked + 1] = id end
      answer = 1
    end
  end
  reply[m] = answer
end
if #kept > 0 then
  publish(channel, kept)
  for _, id in ipairs(tracked) do step(id, publisher, 'done', now, ',"next":["' .. channel_name(channel) .. '"]') end
end
return reply
