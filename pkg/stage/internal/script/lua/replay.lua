-- Puts dead letters back into the stream, each for the group that failed, with its counts at zero.
-- KEYS  1 channel  2 <channel>:dead
-- ARGV  entry IDs of dead letters
-- Reply how many were there and are in the stream now. A letter without a payload (a tombstone) stays.
local n = 0
for _, id in ipairs(ARGV) do
  local letter = redis.call('XRANGE', KEYS[2], id, id)[1]
  if letter and field(letter[2], 'id') ~= '' then
    local entry = {['for'] = field(letter[2], 'group'), error = '', group = '', tries = '', crashes = ''}
    local flat = {}
    for i = 1, #letter[2], 2 do
      if letter[2][i + 1] ~= '' or letter[2][i] == 'payload' then
        flat[#flat + 1] = letter[2][i]
        flat[#flat + 1] = letter[2][i + 1]
      end
    end
    redis.call('XADD', KEYS[1], '*', unpack(with(flat, entry)))
    redis.call('XDEL', KEYS[2], id)
    n = n + 1
  end
end
return n
