-- requeue: gives a dead letter another life.
-- It needs a unit and its user's slot again; the cap does not apply. The order's failed row stays
-- in the database, with the contact that the record has lost. The ticket gets a new sequence. From
-- it a worker knows that a row that failed before is to be made good, and an audit knows when the
-- units were taken again.
--
-- KEYS  1 meta  2 stock  3 isolated  4 orders  5 holders  6 dead  7 attempts
-- ARGV  1 order id  2 wake channel  3 sale
--
-- Returns {1, revision of the line}  requeued
--         {0}   not a dead letter
--         {-1}  the line is not ready
--         {-2}  its record cannot be read
--         {-3}  not enough units left
--         {-4}  its user holds the limit by now

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'limit', 'run')
if not ready(meta[1], meta[2], meta[4]) then return {-1} end
if not redis.call('LPOS', KEYS[6], ARGV[1]) then return {0} end
local record = redis.call('HGET', KEYS[4], ARGV[1]) or ''
-- Redis came back with an older list of dead letters.
if string.find(record, '^[qcp]\t') then return {0} end
local seq, units, user, admitted, print, position, eta =
  string.match(record, '^f\t(%d+)\t(%d+)\t%d+\t([^\t]*)\t(%d+)\t([^\t]*)\t(%d+)\t(%d+)\t')
if not seq then return {-2} end
if tonumber(units) > tonumber(redis.call('GET', KEYS[2]) or '0') then return {-3} end
local text = redis.call('HGET', KEYS[5], user) or ''
local sum, slot = held_by(text)
if sum + tonumber(units) > tonumber(meta[3]) then return {-4} end

redis.call('LREM', KEYS[6], 1, ARGV[1])
redis.call('HDEL', KEYS[7], ARGV[1])
redis.call('DECRBY', KEYS[2], units)
redis.call('HSET', KEYS[5], user, with_order(text, ARGV[1], slot, units))
local mark = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('HINCRBY', KEYS[1], 'marks', 1)
local after = table.concat({'q', seq, units, int(slot), user, admitted, print, position, eta,
  int(mark), '', '', '', '', ''}, '\t')
redis.call('HSET', KEYS[4], ARGV[1], after .. refund_mark(record))
redis.call('LPUSH', KEYS[3], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1, moved(KEYS[1])}
