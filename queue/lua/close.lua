-- close: begins the rebuilding of a line.
-- From here until reopen nothing is admitted, claimed, settled, cancelled or released. What workers
-- hold is taken from them. Surviving tickets stay where they are or become isolated tickets.
-- The gate names this server. So a rebuild that a failover cuts in two is begun again: the second
-- half would not know what the first lost.
--
-- KEYS  1 meta  2 isolated  3 lease  4 leased  5 retry
-- ARGV  1 the new epoch
--
-- Returns 1 begun
--         0 the line already has this epoch or a newer one

local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'gate', server_id())
local leased = redis.call('HGETALL', KEYS[4])
for i = 2, #leased, 2 do in_chunks('LPUSH', KEYS[2], split(leased[i])) end
in_chunks('LPUSH', KEYS[2], redis.call('ZRANGE', KEYS[5], 0, -1))
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
moved(KEYS[1])
return 1
