-- restore: writes a piece of the ledger back into a line that is being rebuilt.
--
-- KEYS  1 meta  2 the hash, list or sorted set to write
-- ARGV  1 epoch  2 command: HSET, HDEL, LPUSH, ZADD or DEL  3... its arguments
--
-- Returns 1 written
--         0 somebody else rebuilds this line now, or the rebuild began on another server

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate')
if meta[1] ~= ARGV[1] or meta[2] ~= server_id() then return 0 end
if ARGV[2] == 'DEL' then redis.call('DEL', KEYS[2])
else redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3)) end
return 1
