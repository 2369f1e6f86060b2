-- Puts dead letters back into the stream, each for the group that failed, with its counts at zero.
-- KEYS  1 channel  2 <channel>:dead
-- ARGV  entry IDs of dead letters
-- Reply how many were put back. A letter that does not have all of an entry stays.
local bad = wrong_of(KEYS[1], '', ':dead')
if bad then return refusal(bad) end
local n = 0
for _, id in ipairs(ARGV) do
  local letter = redis.call('XRANGE', KEYS[2], id, id)[1]
  local fields = map(letter and letter[2] or {})
  if letter and fields.id ~= '' and (fields.size or '') == '' then
    fields['for'] = fields.group
    fields.group, fields.error, fields.tries, fields.crashes, fields.size = nil, nil, nil, nil, nil
    redis.call('XADD', KEYS[1], '*', unpack(flatten(fields)))
    redis.call('XDEL', KEYS[2], id)
    n = n + 1
  end
end
return n
