-- Publishes a batch on one channel: appends each message to the stream, then publishes them, their
-- number first.
-- KEYS  1 channel; then the idempotency and limit keys that ARGV points at
-- ARGV  1 MAX_BACKLOG  2 publisher's name  3 unseen: '1', '0', or '' if Redis is to be
--       asked  4 number of messages; then for each message:
--       id, payload, at (ms), '' if there is nothing more, else:
--       '1', traceparent or '', track ('1' or ''), index in KEYS of its idempotency key or '0',
--       with a minus if that is a hash of IDs, digest, number of limits; for each limit:
--       index in KEYS, max, period (ms)
-- Reply for each message: 1 if it was kept, else JSON with
--       repeat_of (ID of the first message with that key) or
--       reused (true: the key was used for another body) or
--       full (true: over MAX_BACKLOG) or
--       limit (which one, from 1), wait (ms until the next message fits) or
--       error (Redis refused the entry)
-- and then 1 if there are no unseen listeners, else 0.
local channel, max, publisher, n = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[4])
if ARGV[3] ~= '' then unseen = ARGV[3] == '1' end
local a, reply, kept, tracked, now = 5, {}, {}, {}, now_ms()

-- over(share) -> whether Redis has filled more than this share of maxmemory.
local function over(share)
  local info = redis.call('INFO', 'memory')
  local function figure(name) return tonumber(string.match(info, name .. ':(%d+)') or '0') end
  return figure('used_memory') - figure('mem_not_counted_for_evict') > share * figure('maxmemory')
end

-- drop_keys() -> how many idempotency keys it dropped: of some that it comes across, the half that
-- expires first.
local function drop_keys()
  local ages, keys = {}, {}
  for _, key in ipairs(redis.call('SCAN', math.random(0, 2^30), 'MATCH', base .. 'idempotency*', 'COUNT', 200)[2]) do
    local name = string.sub(key, #base + 1)
    if string.find(name, '^idempotency:') or string.find(name, '^idempotency%-at:') then
      keys[#keys + 1] = key
      ages[key] = redis.call('PTTL', key)
    end
  end
  table.sort(keys, function(x, y) return ages[x] < ages[y] end)
  for i = 1, math.ceil(#keys / 2) do redis.call('DEL', keys[i]) end
  return #keys
end

-- make_room() -> the error with which a full Redis refuses events, or nil if it has room. Room is
-- for events: what is settled, progress and idempotency keys go first, in this order, and the
-- oldest of them, until there is a reserve of 1 %.
local function make_room()
  local err = redis_full()
  if not err then return nil end
  write_first() -- from here on Redis refuses nothing
  trim(channel, max)
  for _ = 1, 100 do
    if not over(0.99) then return nil end
    local oldest = redis.call('LPOP', base .. 'progress::hashes')
    if not oldest then break end
    redis.call('DEL', oldest)
  end
  math.randomseed(tonumber(redis.call('TIME')[2]))
  for _ = 1, 20 do
    if not over(0.99) then return nil end
    drop_keys()
  end
  return over(1) and err or nil
end

local stop = wrong_of(channel, '', ':groups', ':floors', ':due') or wrong(base .. 'progress::hashes', 'list')
if stop then
  stop = {error = 'WRONGKEY ' .. stop}
else
  local err = make_room()
  if err then
    stop = {error = err}
  elseif redis.call('XLEN', channel) + n > max then
    stop = full(channel, n, max) and {full = true} or nil
  end
end

-- A message's idempotency key is a string, '<ID> <digest>', or a field of a hash (kind 'hash'): the
-- rest of an event ID that was computed from key and body.
-- known(key, kind, id, digest) -> the answer if the key is known, or nil. take(...) -> the same; a
-- key that was not known is known from then on. drop(...): the key is not known any more.
local function known(key, kind, id, digest)
  local first
  if kind == 'hash' then first = redis.pcall('HEXISTS', key, string.sub(id, 11)) else first = redis.pcall('GET', key) end
  if not first or first == 0 then return nil end
  if type(first) == 'table' then return {error = 'WRONGKEY ' .. (wrong(key, kind) or first.err)} end
  if first == 1 then return {repeat_of = id} end
  local old_id, old = string.match(first, '^(%S+) (.*)$')
  return old == digest and {repeat_of = old_id} or {reused = true}
end
local taken = {} -- hashes to which IDs were added
local function take(key, kind, id, digest)
  if kind == 'hash' then
    if redis.pcall('HSETNX', key, string.sub(id, 11), '') ~= 1 then return known(key, kind, id, digest) end
    taken[key] = true
  elseif not redis.call('SET', key, id .. ' ' .. digest, 'NX', 'PX', 86400000) then
    return known(key, kind, id, digest)
  end
end
local function drop(key, kind, id)
  if kind == 'hash' then redis.call('HDEL', key, string.sub(id, 11)) else redis.call('DEL', key) end
end

-- add(id, payload, at, ...) -> the answer if Redis refuses the entry, or nil.
local function add(id, payload, ...)
  local added = redis.pcall('XADD', channel, '*', 'payload', payload, 'id', id, 'at', ...)
  if type(added) == 'table' and added.err then return {error = added.err} end
  kept[#kept + 1] = payload
end

-- publish_one(id, payload, at) -> the answer if the message with the options at ARGV[a] is refused,
-- or nil. It moves a behind the options.
local function publish_one(id, payload, at)
  local trace, track, index, digest, limits = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), ARGV[a + 3], tonumber(ARGV[a + 4])
  local key, kind = KEYS[math.abs(index)], index < 0 and 'hash' or 'string'
  if index == 0 then key = nil end
  a = a + 5
  local tats = {}
  local refused = stop or limited(a, limits, now, tats)
  a = a + 3 * limits
  if key then
    if refused then refused = known(key, kind, id, digest) or refused else refused = take(key, kind, id, digest) end
  end
  if refused then return refused end
  if trace == '' and track == '1' then
    refused = add(id, payload, at, 'track', '1')
  else
    local fields = {at}
    put(fields, 'traceparent', trace)
    put(fields, 'track', track)
    refused = add(id, payload, unpack(fields))
  end
  if refused then
    if key then drop(key, kind, id) end
    return refused
  end
  use_up(tats, now)
  if track == '1' then tracked[#tracked + 1] = id end
end

for i = 1, n do
  local id, payload, at, more, refused = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3] ~= '', nil
  a = a + 4
  if more then refused = publish_one(id, payload, at) else refused = stop or add(id, payload, at) end
  reply[i] = refused and json(refused) or 1
end
if #kept > 0 then publish(channel, kept) end
for key in pairs(taken) do redis.call('EXPIRE', key, 86400) end
first_steps(publisher, now, channel, tracked)
reply[n + 1] = unseen == false and 1 or 0
return reply
