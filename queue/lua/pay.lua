-- pay: shows an order as paid. It moves no unit.
-- Called after the database has it as paid, as often as it takes. A ticket whose worker has not
-- settled yet is shown as paid at once: the worker finds it so and leaves it.
--
-- KEYS  1 meta  2 orders  3 due
-- ARGV  1 order id  2 when it was confirmed, ms  3 when it was paid, ms  4 status channel  5 sale
--
-- Returns {1, revision of the line}  shown
--         {0}   nothing to show: it is so already, or the line has forgotten it or cannot read it
--         {-1}  the line is not ready

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'run')
local record = redis.call('HGET', KEYS[2], ARGV[1])
-- A line that was dropped, or is loaded from the ledger, which has it.
if not meta[1] and not record then return {0} end
if not ready(meta[1], meta[2], meta[3]) then return {-1} end
redis.call('ZREM', KEYS[3], ARGV[1])
local after = record and string.find(record, '^[qc]\t') and
  ended(record, 'p', tonumber(ARGV[2]), '', ARGV[3])
if not after then return {0} end
if string.byte(record) == 113 then redis.call('HINCRBY', KEYS[1], 'ended', 1) end
redis.call('HSET', KEYS[2], ARGV[1], after)
redis.call('PUBLISH', ARGV[4], ARGV[5] .. '\n' .. ARGV[1] .. ' p')
return {1, moved(KEYS[1])}
