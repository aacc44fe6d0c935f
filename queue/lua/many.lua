-- many: makes several calls of one script in one, in their order and at one instant, each as if it were made alone. The script
-- stands in front as the function once.
--
-- KEYS  the keys of the first call, of the second, ...
-- ARGV  1 keys of each call
--       then per call: how many arguments, the arguments
--
-- Returns one answer per call; an error stands in the place of a call that failed, and what the others did stands.

local each, answers, key, a = tonumber(ARGV[1]), {}, 0, 2
while ARGV[a] do
  local n = tonumber(ARGV[a])
  local good, answer = pcall(once, {unpack(KEYS, key + 1, key + each)}, {unpack(ARGV, a + 1, a + n)})
  if not good then
    if type(answer) == 'table' then answer = answer.err end
    answer = {err = answer}
  end
  answers[#answers + 1] = answer or false
  key, a = key + each, a + n + 1
end
return answers
