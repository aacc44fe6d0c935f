-- retry: makes a dead letter due now, with no attempt counted.
--
-- KEYS  1 due  2 dead  3 tries
-- ARGV  1 id  2 the channel that tells what is due soon  3 the topic
--
-- Returns {1}  done
--         {0}  it is not dead

if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return {0} end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[1], int(now_ms()), ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1}
