-- set_cap: changes the cap of a line and nothing else.
-- Tickets above a lower cap stay; the line takes no more until it is below.
--
-- KEYS  1 meta
-- ARGV  1 epoch  2 cap
--
-- Returns {1, revision of the line}  changed
--         {0}   it was so already
--         {-1}  the line is of another epoch or not ready

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'cap', 'run')
if meta[1] ~= ARGV[1] or not ready(meta[1], meta[2], meta[4]) then return {-1} end
if meta[3] == ARGV[2] then return {0} end
redis.call('HSET', KEYS[1], 'cap', ARGV[2])
return {1, moved(KEYS[1])}
