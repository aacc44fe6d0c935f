-- many: makes several calls of one script in one, in order and atomically.
-- The script stands in front as the function once.
--
-- KEYS  the keys of the first call, of the second, ...
-- ARGV  1 keys of each call
--       then per call: how many arguments, the arguments
--
-- Returns one answer per call. The answer of a failed call is a string, and the effects of the
-- others stay. It is no error, because of go-redis. Where an error of some kinds stands in a list,
-- it leaves the rest unread, and reads the next reply from there.

local each, answers, key, a = tonumber(ARGV[1]), {}, 0, 2
while ARGV[a] do
  local n = tonumber(ARGV[a])
  local keys, args = {unpack(KEYS, key + 1, key + each)}, {unpack(ARGV, a + 1, a + n)}
  local good, answer = pcall(once, keys, args)
  if not good then
    if type(answer) == 'table' then answer = answer.err end
    answer = tostring(answer)
    -- A replica refuses the first write, so nothing was written. The client must see it to leave this
    -- server.
    if string.sub(answer, 1, 9) == 'READONLY ' then return {err = answer} end
  end
  answers[#answers + 1] = answer or false
  key, a = key + each, a + n + 1
end
return answers
