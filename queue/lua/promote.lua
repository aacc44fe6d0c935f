-- promote: moves tickets whose delay is over from retry to the isolated ones.
-- It also moves one that would end later than the longest delay from now: then Redis' clock was
-- set back.
--
-- KEYS  1 retry  2 isolated  3 meta
-- ARGV  1 most tickets  2 longest delay in ms
--
-- Returns how many were moved, 0 while the line is not ready

local meta = redis.call('HMGET', KEYS[3], 'epoch', 'gate', 'run')
if not ready(meta[1], meta[2], meta[3]) then return 0 end
local ids = redis.call('ZRANGE', KEYS[1], '-inf', int(now_ms()), 'BYSCORE', 'LIMIT', 0, ARGV[1])
if #ids == 0 then
  local beyond = '(' .. int(now_ms() + tonumber(ARGV[2]))
  ids = redis.call('ZRANGE', KEYS[1], beyond, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[1])
end
in_chunks('ZREM', KEYS[1], ids)
in_chunks('LPUSH', KEYS[2], ids)
if #ids > 0 then moved(KEYS[3]) end
return #ids
