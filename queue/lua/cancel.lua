-- cancel: ends a ticket at its owner's wish while no worker has it. Units and slot return at once; the ticket itself
-- stays in the line as cancelled, so that a worker writes it into the database like any other end.
--
-- KEYS  1 meta  2 stock  3 orders  4 holders  5 wait  6 retry
-- ARGV  1 order id  2 user  3 status channel  4 sale  5 stock channel  6 number of the instance
--
-- Returns {1, revision of the line} cancelled  {0} already ended, or confirmed (ask the database)  {-1} unknown, or another user's
--         {-2} a worker has it: ask again soon  {-3} the line is not ready; one of which nothing is left answers {-1}

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'run', 'claimed')
local record = redis.call('HGET', KEYS[3], ARGV[1])
if not meta[1] and not record then return {-1} end -- of a line that was dropped the database knows
if not ready(meta[1], meta[2], meta[3]) then return {-3} end
if not record then return {-1} end
local state, seq, user = string.match(record, '^(%a)\t(%d+)\t%d+\t%d+\t([^\t]*)\t')
if user ~= ARGV[2] then return {-1} end
if state ~= 'q' then return {0} end
if tonumber(seq) <= tonumber(meta[4] or '0') then
  if not redis.call('ZSCORE', KEYS[6], ARGV[1]) then return {-2} end
  redis.call('ZREM', KEYS[6], ARGV[1])
  redis.call('RPUSH', KEYS[5], ARGV[1])
end
give_back(KEYS[2], KEYS[4], ARGV[1], record, {ARGV[5], ARGV[4]})
redis.call('HSET', KEYS[3], ARGV[1], ended(record, 'x', now_ms(), '', admitted_by(record), ARGV[6]))
redis.call('PUBLISH', ARGV[3], ARGV[4] .. '\n' .. ARGV[1] .. ' x')
return {1, moved(KEYS[1])}
