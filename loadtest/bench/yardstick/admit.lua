-- Takes one order into a line: what Sluice's admission does, in miniature.
--
-- KEYS: holders (hash user -> order), stock (units left), line (list)
-- ARGV: user, order, units
-- returns: place in line; -1 the user holds an order; -2 not enough units

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return -1 end
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[3]) then return -2 end
redis.call('DECRBY', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('LPUSH', KEYS[3], ARGV[2])
