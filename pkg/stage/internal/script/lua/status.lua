-- What channels and their groups look like now.
-- KEYS  channels
-- Reply {Redis' time (ms), then for each channel a list:
--       TYPE of its key, XLEN, dead letters, ID of the last dead letter ever or '', retries due later, adopter's token or '',
--       entries ever added, the last one's ID or '', then for each group a list:
--       name, policy, known to Redis (1/0), backlog, pending, oldest unsettled entry ID or '', its event ID or '',
--       settled since its start, lost, then for each consumer:
--       name, pending, 'alive', 'away' (a lasting one) or 'gone', and what keeps it from working or ''}

-- about(key) -> entries ever added if Redis counts them (the embedded one does not), the last one's ID or '', of a stream.
local function about(key)
  local flat = redis.pcall('XINFO', 'STREAM', key)
  local f = {}
  if not flat.err then
    for i = 1, #flat, 2 do f[flat[i]] = flat[i + 1] end
  end
  return f['entries-added'], f['last-generated-id'] or ''
end

-- why(group, consumer) -> what keeps a consumer that is alive from working.
local function why(group, consumer)
  local key = consumer_key(group, consumer)
  local said = redis.call('GET', key .. ':alive') or redis.call('GET', key)
  return said and said ~= '1' and said or ''
end

local function look(channel)
  local kind = redis.call('TYPE', channel)
  kind = type(kind) == 'table' and kind.ok or kind
  if kind ~= 'stream' and kind ~= 'none' then return {kind, 0, 0, '', 0, '', 0, ''} end
  local fields, groups = registered(channel)
  local there = in_redis(channel)
  local dead = redis.call('XLEN', channel .. ':dead')
  local last = ''
  if dead > 0 then
    local _, id = about(channel .. ':dead')
    last = id
  end
  local added, newest = about(channel)
  local len = redis.call('XLEN', channel)
  local out = {kind, len, dead, last, redis.call('ZCARD', channel .. ':due'),
    redis.call('GET', channel .. ':adopter') or '', added or len + tonumber(fields['trimmed'] or '0'), newest}
  for _, g in ipairs(groups) do
    local r = there[g.name]
    local row = {g.name, g.required and 'required' or 'optional', r and 1 or 0, waiting(channel, fields, g.name), r and r.pending or 0,
      '', '', tonumber(fields['done:' .. g.name] or '0'), tonumber(fields['lost:' .. g.name] or '0')}
    if r then
      local oldest
      if r.pending > 0 then
        local id = redis.call('XPENDING', channel, g.name)[2]
        if id then
          row[6] = id
          oldest = redis.call('XRANGE', channel, id, id)[1]
        end
      else
        oldest = redis.call('XRANGE', channel, '(' .. r.last, '+', 'COUNT', 1)[1]
      end
      if oldest then
        row[6] = oldest[1]
        row[7] = field(oldest[2], 'id') or oldest[1]
      end
      for _, c in ipairs(consumers(channel, g.name)) do
        row[#row + 1] = c['name']
        row[#row + 1] = c['pending']
        row[#row + 1] = liveness(g.name, c['name'])
        row[#row + 1] = why(g.name, c['name'])
      end
    end
    out[#out + 1] = row
  end
  return out
end

local out = {now_ms()}
for i, channel in ipairs(KEYS) do out[i + 1] = look(channel) end
return out
