-- recap: changes the cap of a line and nothing else. Tickets above a lower cap stay; the line takes no more until it is below.
--
-- KEYS  1 meta
-- ARGV  1 epoch  2 cap
--
-- Returns 1 changed, 0 it was so already, -1 other epoch or being rebuilt.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'cap')
if meta[1] ~= ARGV[1] or meta[2] then return -1 end
if meta[3] == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'cap', ARGV[2])
return 1
