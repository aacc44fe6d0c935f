-- drop: gives up a dead letter. Only its record, without the body, stays for a while.
--
-- KEYS  1 dead  2 messages  3 tries  4 done  5 about
-- ARGV  1 id  2 most finished records kept
--
-- Returns {1}  done
--         {0}  it is not dead

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local record = redis.call('HGET', KEYS[2], ARGV[1])
local attempts = read_try(redis.call('HGET', KEYS[3], ARGV[1]))
redis.call('ZREM', KEYS[1], ARGV[1])
local ended = {ARGV[1], 'p', attempts, record}
finish(KEYS[2], KEYS[3], KEYS[4], KEYS[5], ended, now_ms(), tonumber(ARGV[2]))
return {1}
