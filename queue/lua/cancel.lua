-- cancel: ends a ticket at its owner's wish while no worker has it.
-- It does not count towards the cap any more. It stays in the line as cancelled, so that a worker
-- writes it into the database like any other end. Units and slot return at once. Those of a ticket
-- that a worker had before return when one has written it down: that worker may have made an order.
--
-- KEYS  1 meta  2 stock  3 orders  4 holders  5 wait  6 retry  7 leased  8 cancels
-- ARGV  1 order id  2 user  3 status channel  4 sale  5 stock channel  6 number of the instance
--
-- Returns {1, revision of the line}  cancelled
--         {0}   already ended, or confirmed: ask the database
--         {-1}  unknown, or another user's; also of a line of which nothing is left
--         {-2}  a worker has it, or will fail it because its record cannot be read: ask again soon
--         {-3}  the line is not ready

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'run', 'claimed')
local record = redis.call('HGET', KEYS[3], ARGV[1])
if not meta[1] and not record then return {-1} end -- of a line that was dropped the database knows
if not ready(meta[1], meta[2], meta[3]) then return {-3} end
if not record then return {-1} end
local state, seq, user = string.match(record, '^(%a)\t(%d+)\t%d+\t%d+\t([^\t]*)\t')
if user ~= ARGV[2] then return {-1} end
if state ~= 'q' then return {0} end
local reason = ''
-- Of those that have been claimed once, some came back: they wait for their next try, or in a list
-- again.
if tonumber(seq) <= tonumber(meta[4] or '0') then
  reason = 'held'
  if with_worker(KEYS[7], ARGV[1]) then return {-2} end
end
local after = ended(record, 'x', now_ms(), reason, admitted_by(record), ARGV[6])
if not after then return {-2} end

if reason == 'held' and redis.call('ZREM', KEYS[6], ARGV[1]) == 1 then
  redis.call('RPUSH', KEYS[5], ARGV[1])
end
if reason == '' then give_back(KEYS[2], KEYS[4], ARGV[1], record, {ARGV[5], ARGV[4]}) end
redis.call('HSET', KEYS[3], ARGV[1], after)
redis.call('HINCRBY', KEYS[1], 'ended', 1)
count_cancel(KEYS[1], KEYS[8], user)
redis.call('PUBLISH', ARGV[3], ARGV[4] .. '\n' .. ARGV[1] .. ' x')
return {1, moved(KEYS[1])}
