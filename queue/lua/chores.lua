-- chores: what there is to do in a line that nobody has announced. Asked of every line several times a second, it reads no
-- ticket.
--
-- KEYS  1 wait  2 suspect  3 lease  4 leased  5 retry
--
-- Returns a sum: 1 tickets can be claimed, 2 batches are to be taken over (see reclaim), 4 delays are over (see promote).

local now, found = now_ms(), 0

local function over(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) <= now
end

if redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) > 0 then found = 1 end
if over(KEYS[3]) or redis.call('HLEN', KEYS[4]) > redis.call('ZCARD', KEYS[3]) then found = found + 2 end
if over(KEYS[5]) then found = found + 4 end
return found
