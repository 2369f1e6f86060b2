-- Tells what the user may not do, without doing it, and refuses on a server that takes no writes.
-- ARGV  commands, each in words separated by spaces
-- Reply '' if the user may run all of them, else JSON: refused (the numbers, from 1, of those that
--       it may not), all_keys, all_channels (it may use all of them), no_keys, no_channels (it may
--       run no command on any). A Redis that cannot tell (before 7.0, or an embedded one) allows all.
if not redis.acl_check_cmd then return '' end
local refused = {}
local out = {refused = refused}
for i, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '%S+') do words[#words + 1] = word end
  if not redis.acl_check_cmd(unpack(words)) then refused[#refused + 1] = i end
end
if #refused == 0 then
  write_first()
  return ''
end
-- ACL SETUSER refuses to add a pattern to "all". It does not say what patterns a user has, but a
-- refusal does, if the user may run the command at all.
local function ask(what, commands)
  local known = false
  for _, c in ipairs(commands) do
    if redis.acl_check_cmd(unpack(c)) then
      out['all_' .. what] = true
      return
    end
    local why = redis.pcall(unpack(c)).err or ''
    known = known or why:find('keys mentioned') or why:find('access a key') or why:find('channel')
  end
  if not known then out['no_' .. what] = true end
end
local key = '-nobody has this-'
ask('keys', {{'get', key}, {'del', key}, {'type', key}, {'xlen', key}, {'hgetall', key}, {'set', key, ''}, {'xadd', key, '*', 'a', 'b'},
  {'lpush', key, 'a'}, {'sadd', key, 'a'}, {'zadd', key, 1, 'a'}, {'hset', key, 'a', 'b'}, {'expire', key, 1}})
ask('channels', {{'publish', key, ''}})
return json(out)
