-- refund: shows that a payment of an order must go back.
-- Called after the database has it so, as often as it takes.
--
-- KEYS  1 meta  2 orders
-- ARGV  1 order id  2 status channel  3 sale
--
-- Returns {1, revision of the line}  shown
--         {0}   nothing to show: it is so already, or the line has forgotten it
--         {-1}  the line is not ready

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'run')
local record = redis.call('HGET', KEYS[2], ARGV[1])
-- A line that was dropped, or is loaded from the ledger, which has it.
if not meta[1] and not record then return {0} end
if not ready(meta[1], meta[2], meta[3]) then return {-1} end
if not record then return {0} end
local _, tabs = string.gsub(record, '\t', '')
if tabs ~= 14 then return {0} end -- marked already, or of an older version
redis.call('HSET', KEYS[2], ARGV[1], record .. '\tr')
redis.call('PUBLISH', ARGV[2], ARGV[3] .. '\n' .. ARGV[1] .. ' ' .. string.sub(record, 1, 1))
return {1, moved(KEYS[1])}
