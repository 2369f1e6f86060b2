-- Which keys of a pipeline another program made. It leaves out keys that the user has no right to.
-- ARGV  streams of channels
-- Reply JSON: wrong: for each such key
--       key, is, want (TYPEs)
local out = {wrong = {}}

local function look(key, want)
  local kind = redis.pcall('TYPE', key)
  local is = type(kind) == 'table' and kind.ok or kind
  if type(is) == 'string' and is ~= 'none' and is ~= want then
    out.wrong[#out.wrong + 1] = {key = key, is = is, want = want}
  end
end

look(base .. 'stages', 'hash')
look(base .. 'heard', 'string')
for _, channel in ipairs(ARGV) do
  for name, kind in pairs(KINDS) do look(channel .. name, kind) end
end
return json(out)
