-- cancel: ends a message that waits, before or between attempts.
--
-- KEYS  1 due  2 messages  3 tries  4 done  5 about
-- ARGV  1 id  2 most finished records kept
--
-- Returns {1}   cancelled, now or before
--         {0}   no such message
--         {-1}  it is being delivered, was delivered, dropped, or is dead

local record = redis.call('HGET', KEYS[2], ARGV[1])
if not record then return {0} end
if string.sub(record, 1, 1) == 'x' then return {1} end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {-1} end
local attempts = read_try(redis.call('HGET', KEYS[3], ARGV[1]))
redis.call('ZREM', KEYS[1], ARGV[1])
local ended = {ARGV[1], 'x', attempts, record}
finish(KEYS[2], KEYS[3], KEYS[4], KEYS[5], ended, now_ms(), tonumber(ARGV[2]))
return {1}
