-- What a channel's groups look like now.
-- KEYS  1 channel
-- Reply {XLEN, dead letters, retries due later, adopter's token or '', then for each group a list:
--       name, policy, known to Redis (1/0), backlog, pending, oldest unsettled entry ID or '', settled since its start,
--       lost, then for each consumer: name, pending, 'alive', 'away' (a lasting one) or 'gone'}
local channel = KEYS[1]
local fields, groups = registered(channel)
local there = in_redis(channel)
local out = {redis.call('XLEN', channel), redis.call('XLEN', channel .. ':dead'), redis.call('ZCARD', channel .. ':due'),
  redis.call('GET', channel .. ':adopter') or ''}
for _, g in ipairs(groups) do
  local r, row = there[g.name], nil
  row = {g.name, g.required and 'required' or 'optional', r and 1 or 0, waiting(channel, fields, g.name), r and r.pending or 0, '',
    tonumber(fields['done:' .. g.name] or '0'), tonumber(fields['lost:' .. g.name] or '0')}
  if r then
    if r.pending > 0 then
      row[6] = redis.call('XPENDING', channel, g.name)[2] or ''
    else
      local next = redis.call('XRANGE', channel, '(' .. r.last, '+', 'COUNT', 1)[1]
      row[6] = next and next[1] or ''
    end
    for _, c in ipairs(consumers(channel, g.name)) do
      row[#row + 1] = c['name']
      row[#row + 1] = c['pending']
      row[#row + 1] = liveness(g.name, c['name'])
    end
  end
  out[#out + 1] = row
end
return out
