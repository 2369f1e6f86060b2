-- What the scripts share; it is put in front of each of them.

-- Names. The last ARGV of every script is the base of all names; the headers do not list it. Keys
-- come in KEYS. A channel's other keys are built from its stream's key, the rest from the base.
local base = table.remove(ARGV)
-- In a Redis Cluster the base ends with the shard's tag in braces, and the last KEYS entry is
-- <base>none: Redis refuses a script whole while one of its keys is missing in a slot on the move.
-- Pub/Sub channels have no tag.
local cluster = string.sub(base, -1) == '}'
local prefix = cluster and string.gsub(base, '{%d+}$', '') or base
if cluster then table.remove(KEYS) end
local function consumer_key(group, consumer) return base .. 'consumer:' .. group .. ':' .. consumer end
local function progress_key(id) return base .. 'progress:' .. string.sub(id, 1, 10) end
local function channel_name(stream) return string.sub(stream, #base + 1) end
local function live(stream) return cluster and prefix .. channel_name(stream) or stream end

-- write_first(): Redis refuses commands that may grow a full Redis, but not in a script that has
-- already written. A script that must work on a full Redis begins with a write that is never
-- refused: XACK, PEXPIRE, or this one, which changes nothing.
local function write_first() redis.call('DEL', base .. 'none') end

-- redis_full() -> the error with which a full Redis refuses to grow, or nil. It writes nothing.
local function redis_full()
  local r = redis.pcall('SETRANGE', base .. 'none', 0, '')
  return type(r) == 'table' and string.find(r.err, 'maxmemory', 1, true) and r.err or nil
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- record(t) -> t without its empty lists, which cjson would write as objects. json(t) -> record(t)
-- as JSON. cjson keeps 14 digits of a number: IDs are strings, and a handler's JSON stays a
-- string.
local function record(t)
  for k, v in pairs(t) do
    if type(v) == 'table' and next(v) == nil then t[k] = nil end
  end
  return t
end
local function json(t) return cjson.encode(record(t)) end

-- put(flat, name, value): appends a name and a value, unless the value is nil or ''.
local function put(flat, name, value)
  if not value or value == '' then return end
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end

-- map(flat) -> a table of a flat list of names and values.
local function map(flat)
  local out = {}
  for i = 1, #flat, 2 do out[flat[i]] = flat[i + 1] end
  return out
end

-- Redis does not roll back a script that fails. So a script checks the types of all keys that it
-- may write before its first XACK or XADD: another program may have made one of them.

-- type_of(key) -> its TYPE. wrong(key, kind) -> a sentence if the key exists and has another type,
-- else nil. wrong_of(channel, ...) -> the first such sentence of a channel's keys, each named by
-- what follows the channel's name.
local function type_of(key)
  local kind = redis.call('TYPE', key)
  return type(kind) == 'table' and kind.ok or kind
end
local function wrong(key, kind)
  local is = type_of(key)
  if is == kind or is == 'none' then return nil end
  return 'the key ' .. key .. ' is a ' .. is .. ', not a ' .. kind
end
local KINDS = {[''] = 'stream', [':dead'] = 'stream', [':due'] = 'zset', [':groups'] = 'hash', [':floors'] = 'hash', [':adopter'] = 'string'}
local function wrong_of(channel, ...)
  for _, name in ipairs({...}) do
    local is = wrong(channel .. name, KINDS[name])
    if is then return is end
  end
end
local function refusal(is) return redis.error_reply('WRONGKEY ' .. is) end

-- pred(id) -> the greatest entry ID below id.
local function pred(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. string.format('%.0f', tonumber(seq) - 1) end
  if ms == '0' then return '0-0' end
  return string.format('%.0f', tonumber(ms) - 1) .. '-18446744073709551615'
end

-- before(a, b) -> whether entry ID a is below b. Sequences above 2^53 come only from pred; they
-- compare as the greatest.
local function before(a, b)
  local am, as = string.match(a, '^(%d+)%-?(%d*)$')
  local bm, bs = string.match(b, '^(%d+)%-?(%d*)$')
  am, bm = tonumber(am), tonumber(bm)
  if am ~= bm then return am < bm end
  return (tonumber(as) or 0) < (tonumber(bs) or 0)
end

-- registered(channel) -> the hash <channel>:groups.
local function registered(channel) return map(redis.call('HGETALL', channel .. ':groups')) end

-- count(fields, name) -> a counter of the hash <channel>:groups.
local function count(fields, name) return tonumber(fields[name] or '0') end

-- in_redis(channel) -> group name -> {last = last delivered ID, pending =, consumers =}, of the
-- groups that the stream has, lag = as Redis guesses it, nil if it does not.
local function in_redis(channel)
  local out, infos = {}, redis.pcall('XINFO', 'GROUPS', channel)
  if infos.err then return out end
  for _, flat in ipairs(infos) do
    local g = map(flat)
    out[g['name']] = {last = g['last-delivered-id'], pending = tonumber(g['pending']), consumers = tonumber(g['consumers']), lag = g['lag'] and tonumber(g['lag'])}
  end
  return out
end

-- readers(channel) -> the hash <channel>:groups, the groups that the stream has, and a list of
-- {name=, policy=, required=, counted=} of all groups. counted: it is a stage's, and
-- <channel>:groups counts what it has settled. A group that another program made, and that nobody
-- has decided on, has no policy and counts as optional.
local function readers(channel)
  local fields, there, groups = registered(channel), in_redis(channel), {}
  local function add(group, policy)
    groups[#groups + 1] = {name = group, policy = policy, required = policy == 'required', counted = fields['done:' .. group] and true}
  end
  for name, value in pairs(fields) do
    local group = string.match(name, '^policy:(.*)$')
    if group then add(group, value) end
  end
  for group in pairs(there) do
    if not fields['policy:' .. group] then add(group) end
  end
  return fields, there, groups
end

-- awaited(channel) -> what readers returns, without the groups that are ignored.
local function awaited(channel)
  local fields, there, groups = readers(channel)
  for i = #groups, 1, -1 do
    if groups[i].policy == 'ignored' then table.remove(groups, i) end
  end
  return fields, there, groups
end

-- all_consumers(groups) -> how many consumers the groups have, as in_redis returns them.
local function all_consumers(groups)
  local n = 0
  for _, g in pairs(groups) do n = n + g.consumers end
  return n
end

-- consumers(channel, group) -> list of {name=, pending=} of a group that the stream has.
local function consumers(channel, group)
  local out = {}
  for i, flat in ipairs(redis.call('XINFO', 'CONSUMERS', channel, group)) do out[i] = map(flat) end
  return out
end

-- liveness(group, consumer) -> 'alive', 'away' (a lasting consumer that is not running) or 'gone'.
local function liveness(group, consumer)
  local key = consumer_key(group, consumer)
  local ttl = redis.call('PTTL', key)
  if ttl > 0 or redis.call('EXISTS', key .. ':alive') == 1 then return 'alive' end
  return ttl == -1 and 'away' or 'gone'
end

-- last_writer(value) -> name of a shard's writer, also of one that has given the shard up; 'free'
-- if it has or there was none yet, 'taking', or ''; and since when it has the shard. value is the
-- field that writer.lua explains. writer(value) -> the writer that has the shard, or nil.
local function last_writer(value)
  local name, since, state = string.match(value or '', '^(%S+) (%d+) ?(%a*)$')
  return name, state or 'free', since
end
local function writer(value)
  local name, state = last_writer(value)
  return state ~= 'free' and name or nil
end

-- total(channel, fields) -> entries ever added, as far as our counters know.
local function total(channel, fields) return redis.call('XLEN', channel) + count(fields, 'trimmed') end

-- waiting(channel, fields, group) -> entries that the group has not settled; of one that is not
-- counted, at most.
local function waiting(channel, fields, group)
  if not fields['done:' .. group] then return redis.call('XLEN', channel) end
  return math.max(0, total(channel, fields) - count(fields, 'done:' .. group))
end

-- oldest(channel, group, pending, last) -> ID of the oldest entry that a group has not settled, and
-- the entry; each nil if there is none. Of a pending entry the body may be gone.
local function oldest(channel, group, pending, last)
  local id = pending > 0 and redis.call('XPENDING', channel, group)[2]
  if id then return id, redis.call('XRANGE', channel, id, id)[1] end
  local entry = redis.call('XRANGE', channel, '(' .. last, '+', 'COUNT', 1)[1]
  return entry and entry[1], entry
end

-- stored_floor(channel, group) -> the stored floor, '0-0' if there is none. A floor above the last
-- ID that the stream ever had is not believed: it is of an earlier stream, or of a clock that was
-- ahead.
local function stored_floor(channel, group)
  local floor = redis.call('HGET', channel .. ':floors', group)
  local info = redis.pcall('XINFO', 'STREAM', channel)
  local last = not info.err and map(info)['last-generated-id'] or '0-0'
  if not floor or not string.match(floor, '^%d+%-%d+$') or before(last, floor) then return '0-0' end
  return floor
end

-- update_floors(channel, there, groups) -> group name -> floor: the ID up to which a group has
-- settled everything. A group that Redis lost keeps its stored floor.
local function update_floors(channel, there, groups)
  local floors = {}
  for _, g in ipairs(groups) do
    local r, floor = there[g.name], nil
    if r then
      local first = r.pending > 0 and redis.call('XPENDING', channel, g.name)[2]
      floor = first and pred(first) or r.last
      if g.policy and floor ~= redis.call('HGET', channel .. ':floors', g.name) then redis.call('HSET', channel .. ':floors', g.name, floor) end
    else
      floor = stored_floor(channel, g.name)
    end
    floors[g.name] = floor
  end
  return floors
end

-- trim(channel, max): removes what every group has settled, and stores the groups' floors. Over max
-- entries, it also removes what only optional groups have not settled, and counts that as lost; for
-- a group that is not counted, at most so many.
local function trim(channel, max)
  local fields, there, groups = awaited(channel)
  if #groups == 0 then return end
  local floors, all, required = update_floors(channel, there, groups), nil, nil
  for _, g in ipairs(groups) do
    local floor = floors[g.name]
    if not all or before(floor, all) then all = floor end
    if g.required and (not required or before(floor, required)) then required = floor end
  end
  local removed, past = redis.call('XTRIM', channel, 'MINID', '~', all), 0
  local over = redis.call('XLEN', channel) - max
  if over > 0 and not required then
    past = redis.call('XTRIM', channel, 'MAXLEN', '~', max)
  elseif over > 0 and required ~= all then
    past = redis.call('XTRIM', channel, 'MINID', '~', required, 'LIMIT', over + 100)
  end
  if removed + past > 0 then fields['trimmed'] = redis.call('HINCRBY', channel .. ':groups', 'trimmed', removed + past) end
  if over <= 0 then return end
  local first = redis.call('XRANGE', channel, '-', '+', 'COUNT', 1)[1]
  for _, g in ipairs(groups) do
    if not g.required and (not first or before(floors[g.name], pred(first[1]))) then
      local lost = g.counted and waiting(channel, fields, g.name) - redis.call('XLEN', channel) or past
      if lost > 0 then
        redis.call('HINCRBY', channel .. ':groups', 'lost:' .. g.name, lost)
        if g.counted then redis.call('HINCRBY', channel .. ':groups', 'done:' .. g.name, lost) end
      end
    end
  end
end

-- full(channel, n, max) -> whether n more entries would put more than max before a required group.
-- A channel without groups is full over max entries. But if somebody subscribes to it, they are its
-- readers, and the oldest entries are removed instead.
local function full(channel, n, max)
  if redis.call('XLEN', channel) + n <= max then return false end
  local fields, _, groups = awaited(channel)
  if #groups == 0 then
    if tonumber(redis.call('PUBSUB', 'NUMSUB', live(channel))[2]) == 0 then return true end
    local removed = redis.call('XTRIM', channel, 'MAXLEN', '~', max)
    if removed > 0 then redis.call('HINCRBY', channel .. ':groups', 'trimmed', removed) end
    return false
  end
  trim(channel, max)
  fields = registered(channel)
  local due = redis.call('ZCARD', channel .. ':due')
  for _, g in ipairs(groups) do
    if g.required and waiting(channel, fields, g.name) + due + n > max then return true end
  end
  return false
end

-- keep_last(channel, keep, max): shortens an unread output to its last entries, about keep. If a
-- group reads it all the same, only what it has settled is removed.
local function keep_last(channel, keep, max)
  if redis.call('XLEN', channel) <= keep then return end
  local _, _, groups = awaited(channel)
  if #groups > 0 then trim(channel, max) else redis.call('XTRIM', channel, 'MAXLEN', '~', keep) end
end

-- unseen: whether a message may have listeners that a script does not see: on a replica or, in a
-- cluster, on any node. It is nil until it is known: the caller may say it, or has_listeners asks
-- Redis.
local unseen

-- has_listeners(channel) -> whether a published message has a listener. Adopters are none: they
-- only skip what is announced. Patterns, replicas, and a Redis that does not tell, count as
-- listeners.
local function has_listeners(channel)
  if cluster then return unseen ~= false end
  local n = redis.pcall('PUBSUB', 'NUMSUB', channel, channel .. ':adopters')
  if n.err or n[2] > n[4] or redis.pcall('PUBSUB', 'NUMPAT') ~= 0 then return true end
  if unseen == nil then
    local info = redis.pcall('INFO', 'replication')
    unseen = type(info) ~= 'string' or not string.find(info, 'connected_slaves:0\r', 1, true)
  end
  return unseen
end

-- publish(channel, messages): publishes what was added to the stream. Before it, for adopters, it
-- publishes the number of messages or, in a cluster, which ones: the first 12 hex digits of each
-- one's SHA-1. Without a listener it publishes nothing, so that adopters need not wake up.
local function publish(channel, messages)
  if not has_listeners(channel) then return end
  channel = live(channel)
  local kept = #messages
  if cluster then
    kept = {}
    for i, m in ipairs(messages) do kept[i] = string.sub(redis.sha1hex(m), 1, 12) end
    kept = table.concat(kept)
  end
  redis.call('PUBLISH', channel .. ':kept', kept)
  for _, m in ipairs(messages) do redis.call('PUBLISH', channel, m) end
end

-- watched() -> whether somebody watches an event. watch(id, line): tells a line of progress.
local watching
local function watched()
  if watching == nil then
    local n = redis.pcall('PUBSUB', 'NUMSUB', prefix .. 'progress:')
    watching = cluster or n.err or tonumber(n[2]) > 0
  end
  return watching
end
local function watch(id, line)
  redis.call('PUBLISH', prefix .. 'progress:', id .. ' ' .. line)
end

-- line(stage, state, at, next, detail) -> a step of an event: '<stage> <state><at> <next>
-- <detail>'. state is 'd' (done), 'r' (retry) or 'x' (dead); at has the last 7 digits of the ms,
-- which suffice for an hour; next is the channels, with commas; detail is JSON.
local function line(stage, state, at, next, detail)
  return string.format('%s %s%d %s ', stage, state, at % 10000000, next) .. detail
end

-- first_steps(stage, at, channel, ids): records that events were submitted. An event's progress is
-- one value: a line for each step. Events whose IDs begin with the same 10 characters, for a UUIDv7
-- the time in 4 s, share a hash. It expires an hour after its last event. The list
-- <base>progress::hashes has them in the order in which they were made.
-- A key of another type keeps no progress, and no event from going on.
local function first_steps(stage, at, channel, ids)
  local line, last, made = line(stage, 'd', at, channel_name(channel), ''), nil, 0
  local lines, list = line .. '\n', base .. 'progress::hashes'
  for _, id in ipairs(ids) do
    local key = progress_key(id)
    redis.pcall('HSET', key, string.sub(id, 11), lines)
    if key ~= last then
      redis.call('EXPIRE', key, 3600)
      if redis.pcall('HLEN', key) == 1 then
        redis.pcall('RPUSH', list, key)
        made = made + 1
      end
    end
    last = key
    if watched() then watch(id, line) end
  end
  for _ = 1, 2 * made do -- what has expired leaves the list faster than the list grows
    local oldest = redis.pcall('LINDEX', list, 0)
    if not oldest or oldest.err or redis.call('EXISTS', oldest) == 1 then break end
    redis.call('LPOP', list)
  end
end

-- step(id, line): records a later step. The earlier steps may be gone, and the hash with them.
local function step(id, line)
  local key, rest = progress_key(id), string.sub(id, 11)
  local before = redis.pcall('HGET', key, rest) or ''
  if not before.err then redis.call('HSET', key, rest, before .. line .. '\n') end
  if before == '' then redis.call('EXPIRE', key, 3600) end
  if watched() then watch(id, line) end
end

-- unpack_list(s) -> the strings of a packed list ("3:abc" each), any bytes allowed.
local function unpack_list(s)
  local out, i = {}, 1
  while i <= #s do
    local colon = string.find(s, ':', i, true)
    local len = tonumber(string.sub(s, i, colon - 1))
    out[#out + 1] = string.sub(s, colon + 1, colon + len)
    i = colon + len + 1
  end
  return out
end

-- flatten(fields) -> the flat list of an entry's fields, without those that are '', but for
-- payload.
local function flatten(fields)
  local out = fields.payload and {'payload', fields.payload} or {}
  for name, value in pairs(fields) do
    if name ~= 'payload' then put(out, name, value) end
  end
  return out
end

-- A dead letter keeps at most LETTER bytes of its payload. A script that moves entries stops after
-- BATCH bytes, since Redis does nothing else meanwhile.
local LETTER, BATCH = 65536, 1048576

-- bury(channel, group, fields, err, now, max): writes a dead letter for an entry with these fields.
-- size is the payload's, if only its begin is kept.
local function bury(channel, group, fields, err, now, max)
  local payload, size = fields.payload or '', fields.size or ''
  if #payload > LETTER then
    size = #payload
    payload = string.sub(payload, 1, LETTER)
  end
  redis.call('XADD', channel .. ':dead', 'MAXLEN', '~', max, '*',
    'payload', payload, 'size', size, 'id', fields.id or '', 'group', group, 'error', err,
    'tries', fields.tries or '0', 'crashes', fields.crashes or '0', 'at', fields.at or '',
    'traceparent', fields.traceparent or '', 'track', fields.track or '', 'adopted', fields.adopted or '')
  if fields.track == '1' and fields.id then step(fields.id, line(group, 'x', now, '', '')) end
end

-- requeue(channel, group, consumer, most, max_dead, max_crashes) -> how many of the consumer's
-- pending entries it looked at, at most most and BATCH bytes. Each is acked and, if XACK answered
-- 1, added anew for this group only. max_crashes is nil unless the consumer died. Then crashes is
-- raised, and an entry that was handled alone and now has max_crashes becomes a dead letter: the
-- rule is in internal/poison. An entry whose body is no longer in the stream becomes a dead letter
-- too.
local function requeue(channel, group, consumer, most, max_dead, max_crashes)
  local acked, now, looked, bytes = 0, now_ms(), 0, 0
  local alone = redis.call('HGET', channel .. ':groups', 'alone:' .. group .. ':' .. consumer)
  alone = alone and string.match(alone, '^(%S+)')
  local pending = redis.call('XPENDING', channel, group, '-', '+', most, consumer)
  for _, p in ipairs(pending) do
    if bytes >= BATCH then break end
    local id = p[1]
    local entry = redis.call('XRANGE', channel, id, id)[1]
    looked = looked + 1
    if redis.call('XACK', channel, group, id) == 1 then
      acked = acked + 1
      local fields = map(entry and entry[2] or {})
      bytes = bytes + #(fields.payload or '')
      local crashes = tonumber(fields.crashes or '0') + (max_crashes and 1 or 0)
      fields['for'] = group
      if max_crashes then fields.crashes = tostring(crashes) end
      if not entry then
        bury(channel, group, {}, 'the entry ' .. id .. ' was pending but its body is no longer in the stream', now, max_dead)
      elseif max_crashes and alone == id and crashes >= max_crashes then
        bury(channel, group, fields, crashes .. ' processes died handling it, at last alone', now, max_dead)
      else
        redis.call('XADD', channel, '*', unpack(flatten(fields)))
      end
    end
  end
  if acked > 0 then redis.call('HINCRBY', channel .. ':groups', 'done:' .. group, acked) end
  return looked
end

-- forget(channel, group, consumer) -> whether the consumer was deleted; not while it has pending
-- entries.
local function forget(channel, group, consumer)
  if #redis.call('XPENDING', channel, group, '-', '+', 1, consumer) > 0 then return false end
  redis.call('XGROUP', 'DELCONSUMER', channel, group, consumer)
  redis.call('DEL', consumer_key(group, consumer))
  redis.call('HDEL', channel .. ':groups', 'alone:' .. group .. ':' .. consumer, 'starts:' .. group .. ':' .. consumer)
  return true
end

-- limited(a, limits, now, tats) -> the answer if a rate limit is reached, or nil. By GCRA: the
-- limit's key holds the theoretical arrival time (tat) of the next conforming message. ARGV[a] on
-- has for each limit its index in KEYS, max and period (ms). use_up(tats, now): counts the message.
local function limited(a, limits, now, tats)
  for l = 1, limits do
    local at = a + 3 * (l - 1)
    local key, most, period = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local tat = redis.pcall('GET', key) or '0'
    if tat.err then return {error = 'WRONGKEY ' .. (wrong(key, 'string') or tat.err)} end
    tat = math.max(tonumber(tat) or 0, now) + period / most
    if tat - now > period + 0.001 then return {limit = l, wait = math.ceil(tat - now - period)} end
    tats[l] = {key, tat, period}
  end
end
local function use_up(tats, now)
  for _, t in ipairs(tats) do
    redis.call('SET', t[1], string.format('%.3f', t[2]), 'PX', math.ceil(t[2] - now) + t[3])
  end
end
