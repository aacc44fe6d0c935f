-- erase: removes the messages of a subscription, if none is unfinished or the caller gives them up.
--
-- KEYS  1 messages  2 done  3 tries  4 due  5 firing  6 dead  7 missed  8 warned  9 told  10 about
-- ARGV  1 "1": give up what is unfinished
--
-- Returns {unfinished messages}; where there are any and they were not given up, nothing was done

local live = redis.call('HLEN', KEYS[1]) - redis.call('LLEN', KEYS[2])
if live > 0 and ARGV[1] ~= '1' then return {live} end
redis.call('UNLINK', unpack(KEYS))
return {live}
