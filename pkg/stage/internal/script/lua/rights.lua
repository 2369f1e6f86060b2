-- Tells what the user may not do, without doing it, and refuses on a server that takes no writes.
-- ARGV  commands, each in words separated by spaces
-- Reply the numbers of the commands (from 1) that the user may not run, and if there are any: -1 if
--       the user may use all keys, -2 if all channels. A Redis that cannot tell
--       (before 7.0, or an embedded one) allows all.
local refused = {}
if not redis.acl_check_cmd then return refused end
for i, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '%S+') do words[#words + 1] = word end
  if not redis.acl_check_cmd(unpack(words)) then refused[#refused + 1] = i end
end
if #refused == 0 then
  write_first()
  return refused
end
-- ACL SETUSER refuses to add a pattern to "all".
local function add(mark, commands)
  for _, c in ipairs(commands) do
    if redis.acl_check_cmd(unpack(c)) then
      refused[#refused + 1] = mark
      return
    end
  end
end
add(-1, {{'del', 'any'}, {'hgetall', 'any'}, {'get', 'any'}, {'xlen', 'any'}, {'type', 'any'}})
add(-2, {{'publish', 'any', ''}, {'subscribe', 'any'}})
return refused
