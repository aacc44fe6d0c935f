-- readmit: takes an accepted order, whose ticket was lost, back into the line.
-- The caller has checked its signed receipt, and that the database does not know it. The cap and
-- the window do not apply: it came in time. Where no unit or slot is left for it, it is recorded as
-- failed, and a worker writes that into the database. The ticket gets a new sequence, at the end of
-- the line: its old one belongs to a line that is gone.
--
-- KEYS  1 meta  2 stock  3 wait  4 orders  5 holders
-- ARGV  1 epoch the caller knows  2 order id  3 user  4 units  5 admitted ms  6 fingerprint
--       7 reason if it fails  8 wake channel  9 sale  10 number of the instance
--       11 highest revision of the line that the caller has seen
--
-- Returns the order's record as it is now
--         ""  the line is not ready, of another epoch, or older than the caller has seen

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'limit', 'claimed', 'run', 'rev')
if meta[1] ~= ARGV[1] or not ready(meta[1], meta[2], meta[5]) then return '' end
if tonumber(meta[6]) < tonumber(ARGV[11]) then return '' end
local known = redis.call('HGET', KEYS[4], ARGV[2])
if known then return known end
local text = redis.call('HGET', KEYS[5], ARGV[3]) or ''
local sum, slot = held_by(text)
local units = tonumber(ARGV[4])
local left = tonumber(redis.call('GET', KEYS[2]) or '0')
local fits = sum + units <= tonumber(meta[3]) and units <= left

local state, at, reason, by = 'q', '', '', ARGV[10]
if not fits then state, at, reason, by = 'f', int(now_ms()), ARGV[7], '' end
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
local position = math.max(seq - tonumber(meta[4]), 1)
local record = table.concat({state, int(seq), ARGV[4], int(slot), ARGV[3], ARGV[5], ARGV[6],
  int(position), '0', at, reason, '', '', '', by}, '\t')
if fits then
  redis.call('DECRBY', KEYS[2], units)
  redis.call('HSET', KEYS[5], ARGV[3], with_order(text, ARGV[2], slot, units))
else redis.call('HINCRBY', KEYS[1], 'ended', 1) end
redis.call('HSET', KEYS[4], ARGV[2], record)
redis.call('LPUSH', KEYS[3], ARGV[2])
redis.call('PUBLISH', ARGV[8], ARGV[9])
moved(KEYS[1])
return record
