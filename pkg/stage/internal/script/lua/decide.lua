-- Decides whether trimming waits for a group that another program made.
-- KEYS  1 channel  2 <channel>:groups
-- ARGV  1 group  2 'required' or 'ignored'
-- Reply 1, 0 if there is no such group, or -1 if it is a stage's
write_first()
local bad = wrong_of(KEYS[1], '', ':groups')
if bad then return refusal(bad) end
for _, g in ipairs(select(3, readers(KEYS[1]))) do
  if g.name == ARGV[1] then
    if g.counted then return -1 end
    redis.call('HSET', KEYS[2], 'policy:' .. g.name, ARGV[2])
    return 1
  end
end
return 0
