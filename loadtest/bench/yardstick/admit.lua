-- admit: takes one order into a line, as Sluice's admission does, in miniature.
--
-- KEYS  1 holders (hash: user → order)  2 stock (units left)  3 line (list)
-- ARGV  1 user  2 order  3 units
--
-- Returns its place in line
--         -1 the user holds an order
--         -2 not enough units

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return -1 end
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[3]) then return -2 end
redis.call('DECRBY', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('LPUSH', KEYS[3], ARGV[2])
