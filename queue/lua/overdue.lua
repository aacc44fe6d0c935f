-- overdue: hands out the orders whose payment deadline has passed, each to one caller.
-- Their deadline moves behind the lease, so a caller that dies gives them back. The database
-- decides who ends an order.
--
-- KEYS  1 due
-- ARGV  1 most orders  2 lease in ms
--
-- Returns {now in ms, orders in due, order id, order id, ...}

local now = now_ms()
local out = {int(now), redis.call('ZCARD', KEYS[1])}
local ids = redis.call('ZRANGE', KEYS[1], '-inf', int(now), 'BYSCORE', 'LIMIT', 0, ARGV[1])
local later, until_ms = {}, int(now + tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  later[#later + 1] = until_ms
  later[#later + 1] = id
  out[#out + 1] = id
end
in_chunks('ZADD', KEYS[1], later)
return out
