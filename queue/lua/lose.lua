-- lose: records an accepted order as failed whose ticket was lost.
-- The caller has checked that the order was accepted and that the database does not know it.
-- It holds no unit and no slot. A worker writes it into the database, as any ticket that ended.
--
-- KEYS  1 meta  2 wait  3 orders
-- ARGV  1 epoch the caller knows  2 order id  3 user  4 units  5 admitted ms  6 fingerprint
--       7 reason  8 wake channel  9 sale  10 highest revision of the line that the caller has seen
--
-- Returns {1, record}  recorded
--         {0, record}  the order was known before
--         {}           the line is not ready, of another epoch, or older than the caller has seen

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'claimed', 'run', 'rev')
if meta[1] ~= ARGV[1] or not ready(meta[1], meta[2], meta[4]) then return {} end
if tonumber(meta[5]) < tonumber(ARGV[10]) then return {} end
local known = redis.call('HGET', KEYS[3], ARGV[2])
if known then return {0, known} end
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
local position = math.max(seq - tonumber(meta[3]), 1)
local record = table.concat({'f', int(seq), ARGV[4], '1', ARGV[3], ARGV[5], ARGV[6], int(position),
  '0', int(now_ms()), ARGV[7], '', '', '', ''}, '\t')
redis.call('HSET', KEYS[3], ARGV[2], record)
redis.call('HINCRBY', KEYS[1], 'ended', 1)
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[8], ARGV[9])
moved(KEYS[1])
return {1, record}
