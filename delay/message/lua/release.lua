-- release: hands back all that was claimed with one token, as if it had not been.
-- The answer to the claim was lost, and nobody was called.
--
-- KEYS  1 due  2 firing  3 messages  4 tries
-- ARGV  1 token
--
-- Returns {handed back}

local back, untried, tries, left = {}, {}, {}, {}
local ids = redis.call('ZRANGE', KEYS[2], 0, -1)
for from = 1, #ids, 1000 do
  local some = {unpack(ids, from, math.min(from + 999, #ids))}
  local tried = redis.call('HMGET', KEYS[4], unpack(some))
  for i, id in ipairs(some) do
    local attempts, holds, err = read_try(tried[i])
    if holds == ARGV[1] then
      local due = string.match(redis.call('HGET', KEYS[3], id) or '', '^w\t%d+\t(%d+)')
      left[#left + 1] = id
      back[#back + 1] = attempts > 1 and int(now_ms()) or due or int(now_ms())
      back[#back + 1] = id
      if attempts > 1 then
        tries[#tries + 1] = id
        tries[#tries + 1] = int(attempts - 1) .. '\t\t' .. err
      else
        untried[#untried + 1] = id
      end
    end
  end
end
in_chunks('ZREM', KEYS[2], left)
in_chunks('ZADD', KEYS[1], back)
in_chunks('HSET', KEYS[4], tries)
in_chunks('HDEL', KEYS[4], untried)
return {#left}
