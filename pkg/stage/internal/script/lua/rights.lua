-- Tells what the user may not do, without doing it, and refuses on a server that takes no writes.
-- ARGV  commands, each in words separated by spaces
-- Reply the numbers of the commands (from 1) that the user may not run, and if there are any: -1 if
--       the user may use all keys, -2 if all channels, -3 and -4 if it may run no command on keys,
--       on channels. A Redis that cannot tell (before 7.0, or an embedded one) allows all.
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
-- ACL SETUSER refuses to add a pattern to "all". It does not say what patterns a user has, but a
-- refusal does, if the user may run the command at all.
local function add(mark, commands)
  local known = false
  for _, c in ipairs(commands) do
    if redis.acl_check_cmd(unpack(c)) then
      refused[#refused + 1] = mark
      return
    end
    local why = redis.pcall(unpack(c)).err or ''
    known = known or why:find('keys mentioned') or why:find('access a key') or why:find('channel')
  end
  if not known then refused[#refused + 1] = mark - 2 end
end
local key = '-nobody has this-'
add(-1, {{'get', key}, {'del', key}, {'type', key}, {'xlen', key}, {'hgetall', key}, {'set', key, ''}, {'xadd', key, '*', 'a', 'b'},
  {'lpush', key, 'a'}, {'sadd', key, 'a'}, {'zadd', key, 1, 'a'}, {'hset', key, 'a', 'b'}, {'expire', key, 1}})
add(-2, {{'publish', key, ''}})
return refused
