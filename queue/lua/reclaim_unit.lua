-- reclaim_unit: takes a unit and a slot again for an expired order that has been paid late.
-- The order becomes a ticket in a leased batch of its own, as if its payer were a worker. The payer
-- settles it, and if it dies a worker does. The cap and the window do not apply: it came in time.
--
-- KEYS  1 meta  2 stock  3 orders  4 holders  5 lease  6 leased  7 done  8 recent  9 wait
--       10 isolated  11 retry
-- ARGV  1 epoch the caller knows  2 order id  3 user  4 units  5 sequence  6 admitted ms
--       7 fingerprint  8 position  9 eta s  10 batch id (never used before)  11 lease in ms
--       12 highest revision of the line that the caller has seen
--
-- Returns {"A", mark, slot, newest change of the ledger that the line knows of}  taken
--               mark is a new sequence: it tells an audit when
--         and when nothing was done
--         {"X"}  the line is not ready, of another epoch, or older than the caller has seen
--         {"B"}  a worker or another payer has it or will have it, or its expiry has not reached
--                the line yet: ask again soon
--         {"N"}  the line knows of another end
--         {"L"}  its user holds the limit by now
--         {"S"}  not enough units left

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'limit', 'claimed', 'run', 'rev', 'ledger',
  'lease', 'ended')
if meta[1] ~= ARGV[1] or not ready(meta[1], meta[2], meta[5]) then return {'X'} end
if tonumber(meta[6]) < tonumber(ARGV[12]) then return {'X'} end
local known = redis.call('HGET', KEYS[3], ARGV[2])
local state = known and string.sub(known, 1, 1) or 'e'
if state == 'q' or state == 'c' then return {'B'} end
if state ~= 'e' then return {'N'} end
-- Its worker died, a rebuild left it listed as an order, and it expired: it would stand in the line
-- twice.
local listed = tonumber(meta[9] or '0') > 0 and (redis.call('LPOS', KEYS[10], ARGV[2])
  or redis.call('LPOS', KEYS[9], ARGV[2]) or redis.call('ZSCORE', KEYS[11], ARGV[2])
  or with_worker(KEYS[6], ARGV[2]))
if listed then return {'B'} end
local text = redis.call('HGET', KEYS[4], ARGV[3]) or ''
local sum, slot = held_by(text)
local units = tonumber(ARGV[4])
if sum + units > tonumber(meta[3]) then return {'L'} end
if units > tonumber(redis.call('GET', KEYS[2]) or '0') then return {'S'} end

-- It must count as claimed, or its owner could cancel it behind the payer's back.
local claimed = math.max(tonumber(meta[4]), 1)
local seq = math.min(tonumber(ARGV[5]), claimed)
local mark = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('HINCRBY', KEYS[1], 'marks', 1)
moved(KEYS[1])
redis.call('HSET', KEYS[1], 'claimed', int(claimed))
redis.call('DECRBY', KEYS[2], units)
redis.call('HSET', KEYS[4], ARGV[3], with_order(text, ARGV[2], slot, units))
local record = table.concat({'q', int(seq), int(units), int(slot), ARGV[3], ARGV[6], ARGV[7], ARGV[8],
  ARGV[9], '', '', '', '', '', ''}, '\t')
redis.call('HSET', KEYS[3], ARGV[2], record .. refund_mark(known or ''))
name_recent(KEYS[8], {int(mark) .. '\t' .. ARGV[3]}) -- it never waits, so no claim will
redis.call('LREM', KEYS[7], 0, ARGV[2])
redis.call('HSET', KEYS[6], ARGV[10], ARGV[2])
redis.call('ZADD', KEYS[5], lease_ends(KEYS[1], meta[8], ARGV[11]), ARGV[10])
return {'A', int(mark), int(slot), meta[7] or '0'}
