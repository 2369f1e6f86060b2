-- What channels and their groups look like now.
-- KEYS  channels
-- Reply JSON: at (Redis' time, ms), channels: for each
--       kind (TYPE of its key), wrong (sentences about keys of a wrong type), entries,
--       added (entries ever added), newest (the last one's ID),
--       dead, due (retries), adopted, foreign (groups of other programs): for each
--       name, policy ('required', 'ignored', or none), backlog, lost, consumers, oldest_entry
--       and groups (of stages): for each
--       name, optional, backlog, pending, settled, lost, oldest_entry and oldest_event (IDs of the
--       oldest unsettled entry), writer (whom the shard belongs to), consumers: for each
--       name, pending, state ('alive', 'away' for a lasting one, or 'gone'), works ('1', or JSON of
--       what keeps one that is alive from working)

-- stream(key) -> entries ever added, if Redis counts them (the embedded one does not), and the last
-- one's ID.
local function stream(key)
  local info = redis.pcall('XINFO', 'STREAM', key)
  if info.err then return nil, nil end
  info = map(info)
  return info['entries-added'], info['last-generated-id']
end

-- look_foreign(channel, g, fields, r) -> what is known of a group that another program made.
local function look_foreign(channel, g, fields, r)
  local out = {name = g.name, policy = g.policy, lost = count(fields, 'lost:' .. g.name)}
  if not r then return out end
  local id = oldest(channel, g.name, r.pending, r.last)
  out.oldest_entry, out.consumers = id, r.consumers
  out.backlog = id and (r.lag and r.pending + r.lag or redis.call('XLEN', channel)) or 0
  return out
end

local function look_group(channel, g, fields, r)
  local out = {
    name = g.name, optional = not g.required, backlog = waiting(channel, fields, g.name), pending = 0,
    settled = count(fields, 'done:' .. g.name), lost = count(fields, 'lost:' .. g.name), consumers = {},
  }
  out.writer = writer(fields['writer:' .. g.name])
  if not r then return record(out) end
  out.pending = r.pending
  local id, entry = oldest(channel, g.name, r.pending, r.last)
  out.oldest_entry, out.oldest_event = id, entry and (map(entry[2]).id or id)
  for i, c in ipairs(consumers(channel, g.name)) do
    local key = consumer_key(g.name, c.name)
    out.consumers[i] = {
      name = c.name, pending = c.pending, state = liveness(g.name, c.name),
      works = redis.call('GET', key .. ':alive') or redis.call('GET', key) or nil,
    }
  end
  return record(out)
end

local function look(channel)
  local out = {kind = type_of(channel), groups = {}, foreign = {}, wrong = {}}
  local bad = {}
  for name in pairs(KINDS) do
    bad[name] = wrong_of(channel, name)
    out.wrong[#out.wrong + 1] = bad[name]
  end
  if not bad[':dead'] then out.dead = redis.call('XLEN', channel .. ':dead') end
  if not bad[':due'] then out.due = redis.call('ZCARD', channel .. ':due') end
  if bad[''] or bad[':groups'] then return record(out) end
  local fields, there, groups = readers(channel)
  out.entries = redis.call('XLEN', channel)
  out.added, out.newest = stream(channel)
  out.added = out.added or total(channel, fields)
  out.adopted = redis.call('EXISTS', channel .. ':adopter') == 1
  for _, g in ipairs(groups) do
    local list, look = out.foreign, look_foreign
    if g.counted then list, look = out.groups, look_group end
    list[#list + 1] = look(channel, g, fields, there[g.name])
  end
  return record(out)
end

local out = {at = now_ms(), channels = {}}
for i, channel in ipairs(KEYS) do out.channels[i] = look(channel) end
return json(out)
