-- Publishes a batch on one channel: appends each message to the stream, then publishes them, their
-- number first.
-- KEYS  1 channel; then the idempotency and limit keys that ARGV points at
-- ARGV  1 MAX_BACKLOG  2 publisher's name  3 number of messages; then for each message:
--       id, payload, at (ms), '' if there is nothing more, else:
--       '1', traceparent or '', track ('1' or ''), index in KEYS of its idempotency key or '0',
--       digest, number of limits; for each: index in KEYS, max, period (ms)
-- Reply for each message: 1 if it was kept, else JSON with
--       repeat_of (ID of the first message with that key) or
--       reused (true: the key was used for another body) or
--       full (true: over MAX_BACKLOG) or
--       limit (which one, from 1), wait (ms until the next message fits) or
--       error (Redis refused the entry)
local channel, max, publisher, n = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local a, reply, kept, tracked, none, now = 4, {}, {}, {}, {}, now_ms()
-- Over the limit, full() trims. After that write Redis would refuse nothing, so it is asked before.
local stop
if redis.call('XLEN', channel) + n > max then
  local err = redis_full()
  stop = err and {error = err} or full(channel, n, max) and {full = true} or nil
end

-- options() -> what the message at ARGV[a] has beside its payload; moves a behind it.
local function options()
  local m, limits = {fields = {}, limits = {}, key = KEYS[tonumber(ARGV[a + 2])], digest = ARGV[a + 3]}, tonumber(ARGV[a + 4])
  m.tracked = ARGV[a + 1] == '1'
  put(m.fields, 'traceparent', ARGV[a])
  put(m.fields, 'track', ARGV[a + 1])
  a = a + 5
  for l = 1, limits do
    m.limits[l] = {key = KEYS[tonumber(ARGV[a])], max = tonumber(ARGV[a + 1]), period = tonumber(ARGV[a + 2])}
    a = a + 3
  end
  return m
end

-- known(m) -> the answer if m's idempotency key is known, or nil.
local function known(m)
  local first = m.key and redis.call('GET', m.key)
  if not first then return nil end
  local id, digest = string.match(first, '^(%S+) (.*)$')
  return digest == m.digest and {repeat_of = id} or {reused = true}
end

-- limited(m) -> the answer if m is over a rate limit, or nil. By GCRA: the limit's key holds the
-- theoretical arrival time (tat) of the next conforming message.
local function limited(m)
  for l, limit in ipairs(m.limits) do
    limit.tat = math.max(tonumber(redis.call('GET', limit.key) or '0'), now) + limit.period / limit.max
    if limit.tat - now > limit.period + 0.001 then
      return {limit = l, wait = math.ceil(limit.tat - now - limit.period)}
    end
  end
end

-- used(m, id): m was kept. Its key is known from here on, and its limits have counted it.
local function used(m, id)
  if m.key then redis.call('SET', m.key, id .. ' ' .. m.digest, 'PX', 86400000) end
  for _, l in ipairs(m.limits) do
    redis.call('SET', l.key, string.format('%.3f', l.tat), 'PX', math.ceil(l.tat - now) + l.period)
  end
  if m.tracked then tracked[#tracked + 1] = id end
end

for i = 1, n do
  local id, payload, at, m = ARGV[a], ARGV[a + 1], ARGV[a + 2], nil
  a = a + 4
  if ARGV[a - 1] ~= '' then m = options() end
  local refused = m and known(m) or stop or m and limited(m)
  if not refused then
    local added = redis.pcall('XADD', channel, '*', 'payload', payload, 'id', id, 'at', at, unpack(m and m.fields or none))
    refused = type(added) == 'table' and added.err and {error = added.err}
  end
  if refused then
    reply[i] = json(refused)
  else
    kept[#kept + 1] = payload
    reply[i] = 1
    if m then used(m, id) end
  end
end
if #kept > 0 then
  publish(channel, kept)
  for _, id in ipairs(tracked) do
    step(id, publisher, 'd', now, {channel_name(channel)})
  end
end
return reply
