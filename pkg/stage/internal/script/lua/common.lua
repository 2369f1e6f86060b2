-- What the scripts share; prepended to each of them.
--
-- The last ARGV of every script is the base of all names; the headers do not list it. A script gets its keys in KEYS.
-- It builds a channel's other keys from its stream's key, and the rest with the functions here.
local base = table.remove(ARGV)
local function consumer_key(group, consumer) return base .. 'consumer:' .. group .. ':' .. consumer end
local function progress_key(id) return base .. 'progress:' .. id end
local function channel_name(stream) return string.sub(stream, #base + 1) end

-- write_first(): a full Redis refuses commands that may grow it, but not within a script that has already written. A
-- script that has to work while Redis is full begins with a write that Redis never refuses: an XACK, a PEXPIRE, or this
-- one, which changes nothing.
local function write_first() redis.call('DEL', base .. 'none') end

-- full_redis() -> the error with which a full Redis refuses to grow, or nil. It asks with a write of nothing.
local function full_redis()
  local r = redis.pcall('SETRANGE', base .. 'none', 0, '')
  return type(r) == 'table' and r.err or nil
end

-- pred(id) -> the greatest entry ID below id.
local function pred(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. string.format('%.0f', tonumber(seq) - 1) end
  if ms == '0' then return '0-0' end
  return string.format('%.0f', tonumber(ms) - 1) .. '-18446744073709551615'
end

-- before(a, b) -> whether entry ID a is below b. Sequences above 2^53 come only from pred and compare as the greatest.
local function before(a, b)
  local am, as = string.match(a, '^(%d+)%-?(%d*)$')
  local bm, bs = string.match(b, '^(%d+)%-?(%d*)$')
  am, bm = tonumber(am), tonumber(bm)
  if am ~= bm then return am < bm end
  return (tonumber(as) or 0) < (tonumber(bs) or 0)
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- registered(channel) -> the fields of <channel>:groups as a table, and a list of {name=, required=} of its groups.
local function registered(channel)
  local flat, fields, groups = redis.call('HGETALL', channel .. ':groups'), {}, {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
    local name = string.match(flat[i], '^policy:(.*)$')
    if name then groups[#groups + 1] = {name = name, required = flat[i + 1] == 'required'} end
  end
  return fields, groups
end

-- in_redis(channel) -> group name -> {last = last delivered ID, pending = n}, of the groups that the stream has.
local function in_redis(channel)
  local out = {}
  local ok = redis.pcall('XINFO', 'GROUPS', channel)
  if ok.err then return out end
  for _, flat in ipairs(ok) do
    local g = {}
    for i = 1, #flat, 2 do g[flat[i]] = flat[i + 1] end
    out[g['name']] = {last = g['last-delivered-id'], pending = tonumber(g['pending']), consumers = tonumber(g['consumers'])}
  end
  return out
end

-- liveness(group, consumer) -> 'alive', 'away' (a lasting consumer that is not running) or 'gone'.
local function liveness(group, consumer)
  local key = consumer_key(group, consumer)
  local ttl = redis.call('PTTL', key)
  if ttl > 0 or redis.call('EXISTS', key .. ':alive') == 1 then return 'alive' end
  return ttl == -1 and 'away' or 'gone'
end

-- consumers(channel, group) -> list of {name=, pending=} of a group that the stream has.
local function consumers(channel, group)
  local out = {}
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', channel, group)) do
    local c = {}
    for i = 1, #flat, 2 do c[flat[i]] = flat[i + 1] end
    out[#out + 1] = c
  end
  return out
end

-- waiting(channel, fields, group) -> entries that the group has not settled.
local function waiting(channel, fields, group)
  local n = redis.call('XLEN', channel) + tonumber(fields['trimmed'] or '0') - tonumber(fields['done:' .. group] or '0')
  if n < 0 then return 0 end
  return n
end

-- trim(channel, max): removes what every group has settled; stores each group's floor. A group that Redis lost keeps its
-- stored floor. Over max entries, it removes what only optional groups have not settled, and counts their loss.
local function trim(channel, max)
  local fields, groups = registered(channel)
  if #groups == 0 then return end
  local there = in_redis(channel)
  local all, required, floors = nil, nil, {}
  for _, g in ipairs(groups) do
    local stored = redis.call('HGET', channel .. ':floors', g.name)
    local floor = stored or '0-0'
    local r = there[g.name]
    if r then
      floor = r.last
      if r.pending > 0 then
        local p = redis.call('XPENDING', channel, g.name)
        if tonumber(p[1]) > 0 and p[2] then floor = pred(p[2]) end
      end
      if floor ~= stored then redis.call('HSET', channel .. ':floors', g.name, floor) end
    end
    floors[g.name] = floor
    if not all or before(floor, all) then all = floor end
    if g.required and (not required or before(floor, required)) then required = floor end
  end
  local removed = redis.call('XTRIM', channel, 'MINID', '~', all)
  local over = redis.call('XLEN', channel) - max
  if over > 0 and required ~= all then
    local bound = required
    if not bound then
      bound = '0-0'
      for _, f in pairs(floors) do if before(bound, f) then bound = f end end
      if redis.call('XLEN', channel) > max then -- nothing but optional groups: the oldest entries go
        removed = removed + redis.call('XTRIM', channel, 'MAXLEN', '~', max)
      end
    else
      removed = removed + redis.call('XTRIM', channel, 'MINID', '~', bound, 'LIMIT', over + 100)
    end
  end
  if removed > 0 then
    redis.call('HINCRBY', channel .. ':groups', 'trimmed', removed)
    fields['trimmed'] = tonumber(fields['trimmed'] or '0') + removed
  end
  if over > 0 then
    local first = redis.call('XRANGE', channel, '-', '+', 'COUNT', 1)[1]
    for _, g in ipairs(groups) do
      if not g.required and (not first or before(floors[g.name], pred(first[1]))) then
        local lost = waiting(channel, fields, g.name) - redis.call('XLEN', channel)
        if lost > 0 then
          redis.call('HINCRBY', channel .. ':groups', 'lost:' .. g.name, lost)
          redis.call('HINCRBY', channel .. ':groups', 'done:' .. g.name, lost)
        end
      end
    end
  end
end

-- full(channel, n, max) -> whether n more entries would put more than max before a required group. A channel that no
-- group reads is full over max entries, unless someone listens: then the listener is its reader, and the oldest go.
local function full(channel, n, max)
  if redis.call('XLEN', channel) + n <= max then return false end
  local fields, groups = registered(channel)
  if #groups == 0 then
    if tonumber(redis.call('PUBSUB', 'NUMSUB', channel)[2]) == 0 then return true end
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

-- heard(channel) -> whether anyone is there to hear what is published on a channel, beside adopters, who only skip what is
-- announced. Patterns, replicas of Redis, and a Redis that does not tell, may stand for listeners and count as such.
local function heard(channel)
  local n = redis.pcall('PUBSUB', 'NUMSUB', channel, channel .. ':adopters')
  local patterns = redis.pcall('PUBSUB', 'NUMPAT')
  if n.err or n[2] > n[4] or patterns ~= 0 then return true end
  local info = redis.pcall('INFO', 'replication')
  return type(info) ~= 'string' or not string.find(info, 'connected_slaves:0\r', 1, true)
end

-- publish(channel, messages): publishes what was added to the stream, its number first, for adopters. Where nobody would hear
-- them, a batch that costs more to publish than to ask is not published.
local FEW = 8
local function publish(channel, messages)
  if #messages > FEW and not heard(channel) then return end
  redis.call('PUBLISH', channel .. ':kept', #messages)
  for _, m in ipairs(messages) do redis.call('PUBLISH', channel, m) end
end

-- step(id, stage, state, now, rest): records what stage did with a tracked event and tells who watches.
-- rest is more JSON for the object, starting with a comma, or ''.
local function step(id, stage, state, now, rest)
  local json = '{"id":"' .. id .. '","stage":"' .. stage .. '","state":"' .. state .. '","at":' ..
    string.format('%.0f', now) .. rest .. '}'
  local key = progress_key(id)
  redis.call('HSET', key, stage, json)
  redis.call('EXPIRE', key, 3600)
  redis.call('PUBLISH', key, json)
end

-- pack(list) and unpack_list(s): a list of strings as netstrings ("3:abc"), any bytes allowed.
local function pack(list)
  local out = {}
  for i, v in ipairs(list) do out[i] = #v .. ':' .. v end
  return table.concat(out)
end
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

-- with(flat, changes) -> the field/value list of an entry with some values replaced or added.
local function with(flat, changes)
  local out = {}
  for i = 1, #flat, 2 do
    if changes[flat[i]] == nil then
      out[#out + 1] = flat[i]
      out[#out + 1] = flat[i + 1]
    end
  end
  for k, v in pairs(changes) do
    if v ~= '' then
      out[#out + 1] = k
      out[#out + 1] = v
    end
  end
  return out
end

local function field(flat, name)
  for i = 1, #flat, 2 do
    if flat[i] == name then return flat[i + 1] end
  end
end

-- bury(channel, group, flat, reason, now, max): writes a dead letter for an entry with these fields.
local function bury(channel, group, flat, reason, now, max)
  redis.call('XADD', channel .. ':dead', 'MAXLEN', '~', max, '*',
    'payload', field(flat, 'payload') or '', 'id', field(flat, 'id') or '', 'group', group, 'error', reason,
    'tries', field(flat, 'tries') or '0', 'crashes', field(flat, 'crashes') or '0', 'at', field(flat, 'at') or '',
    'traceparent', field(flat, 'traceparent') or '', 'track', field(flat, 'track') or '', 'adopted', field(flat, 'adopted') or '')
  if field(flat, 'track') == '1' and field(flat, 'id') then step(field(flat, 'id'), group, 'dead', now, '') end
end

-- requeue(channel, group, consumer, gone, count, max_dead) -> how many of the consumer's pending entries were put back.
-- Each is acked and, if that answered 1, added anew for this group only. When the consumer is gone (it died), crashes is
-- raised; an entry that it was handling alone and that has now crashed five consumers becomes a dead letter, and so does
-- an entry whose body is no longer in the stream.
local MAX_CRASHES = 5
local function requeue(channel, group, consumer, gone, count, max_dead)
  local ids = redis.call('XPENDING', channel, group, '-', '+', count, consumer)
  local acked, now = 0, now_ms()
  local alone = redis.call('HGET', channel .. ':groups', 'alone:' .. group .. ':' .. consumer)
  alone = alone and string.match(alone, '^(%S+)')
  for _, p in ipairs(ids) do
    local id = p[1]
    local entry = redis.call('XRANGE', channel, id, id)[1]
    if redis.call('XACK', channel, group, id) == 1 then
      acked = acked + 1
      if not entry then
        bury(channel, group, {}, 'the entry ' .. id .. ' was pending but its body is no longer in the stream', now, max_dead)
      else
        local flat, crashes = entry[2], nil
        local add = {['for'] = group}
        if gone then
          crashes = tonumber(field(flat, 'crashes') or '0') + 1
          add['crashes'] = tostring(crashes)
        end
        flat = with(flat, add)
        if gone and alone == id and crashes >= MAX_CRASHES then
          bury(channel, group, flat, crashes .. ' processes died handling it, at last alone', now, max_dead)
        else
          redis.call('XADD', channel, '*', unpack(flat))
        end
      end
    end
  end
  if acked > 0 then redis.call('HINCRBY', channel .. ':groups', 'done:' .. group, acked) end
  return #ids
end

-- forget(channel, group, consumer) -> whether the consumer was deleted; not while it has pending entries.
local function forget(channel, group, consumer)
  if #redis.call('XPENDING', channel, group, '-', '+', 1, consumer) > 0 then return false end
  redis.call('XGROUP', 'DELCONSUMER', channel, group, consumer)
  redis.call('DEL', consumer_key(group, consumer))
  redis.call('HDEL', channel .. ':groups', 'alone:' .. group .. ':' .. consumer, 'starts:' .. group .. ':' .. consumer)
  return true
end
