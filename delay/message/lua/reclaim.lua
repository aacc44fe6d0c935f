-- reclaim: takes messages from dispatchers whose lease has run out.
-- Their attempt was counted when it began, and the receiver may have got it. Messages with attempts
-- left are due at once, the others are dead.
--
-- KEYS  1 due  2 firing  3 tries  4 dead
-- ARGV  1 most messages  2 most attempts  3 the error of an attempt nobody reported on
--
-- Returns {due again, dead, one of the dead ("" when none)}

local now = now_ms()
local ids = redis.call('ZRANGE', KEYS[2], '-inf', int(now), 'BYSCORE', 'LIMIT', 0, ARGV[1])
if #ids == 0 then return {0, 0, ''} end
local tried = redis.call('HMGET', KEYS[3], unpack(ids))
local due, dead, tries = {}, {}, {}
for i, id in ipairs(ids) do
  local attempts = read_try(tried[i])
  local list = attempts >= tonumber(ARGV[2]) and dead or due
  list[#list + 1] = int(now)
  list[#list + 1] = id
  tries[#tries + 1] = id
  tries[#tries + 1] = int(attempts) .. '\t\t' .. ARGV[3]
end
in_chunks('ZREM', KEYS[2], ids)
in_chunks('HSET', KEYS[3], tries)
in_chunks('ZADD', KEYS[1], due)
in_chunks('ZADD', KEYS[4], dead)
return {#due / 2, #dead / 2, dead[2] or ''}
