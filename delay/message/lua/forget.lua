-- forget: removes a deleted topic, unless it has unfinished messages.
-- The topic takes no messages for a while. So processes that have not yet read the deletion cannot
-- add any.
--
-- KEYS  1 messages  2 done  3 tries  4 gone  5 version  6 about  7 missed  8 warned  9 told  10 waited  11 added
-- ARGV  1 for how long in ms
--
-- Returns {unfinished messages}; 0 removed, else nothing was done

local live = redis.call('HLEN', KEYS[1]) - redis.call('LLEN', KEYS[2])
if live > 0 then return {live} end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11])
redis.call('SET', KEYS[4], '1', 'PX', ARGV[1])
return {0}
