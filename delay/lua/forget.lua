-- forget: removes a deleted topic, if no message of it is unfinished. It takes no messages for a while, so that processes which
-- have not yet heard that it is deleted cannot add any.
--
-- KEYS  1 messages  2 done  3 tries  4 gone
-- ARGV  1 for how long in ms
--
-- Returns {unfinished messages}: 0 removed, else nothing was done.

local live = redis.call('HLEN', KEYS[1]) - redis.call('LLEN', KEYS[2])
if live > 0 then return {live} end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('SET', KEYS[4], '1', 'PX', ARGV[1])
return {0}
