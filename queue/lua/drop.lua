-- drop: forgets a dead letter. Its units and its user's slot had returned when it died.
-- Where its order exists after all, the letter goes and the order stays. Then a worker had settled
-- the order, and Redis came back with an older list of letters.
--
-- KEYS  1 orders  2 dead  3 done  4 meta
-- ARGV  1 order id  2 most finished records kept
--
-- Returns {1, revision of the line}  dropped
--         {0}   not a dead letter
--         {-1}  the line is not ready

local meta = redis.call('HMGET', KEYS[4], 'epoch', 'gate', 'run')
if not ready(meta[1], meta[2], meta[3]) then return {-1} end
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return {0} end
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record or not string.find(record, '^[qcp]\t') then
  keep_done(KEYS[4], KEYS[3], KEYS[1], {ARGV[1]}, tonumber(ARGV[2]))
end
return {1, moved(KEYS[4])}
