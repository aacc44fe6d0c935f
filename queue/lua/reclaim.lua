-- reclaim: takes over the batches whose lease has run out, and those that have none (which no script leaves behind,
-- but a restored backup might). Each ticket counts one failed attempt and becomes a suspect: it may be what killed the worker.
--
-- KEYS  1 lease  2 leased  3 suspect  4 attempts
-- ARGV  1 most batches
--
-- Returns {batches, tickets} taken over.

local batches = redis.call('ZRANGE', KEYS[1], '-inf', int(now_ms()), 'BYSCORE', 'LIMIT', 0, ARGV[1])
if redis.call('HLEN', KEYS[2]) > redis.call('ZCARD', KEYS[1]) then
  for _, batch in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not redis.call('ZSCORE', KEYS[1], batch) then batches[#batches + 1] = batch end
  end
end
local tickets = 0
for _, batch in ipairs(batches) do
  local ids = split(redis.call('HGET', KEYS[2], batch) or '')
  for _, id in ipairs(ids) do redis.call('HINCRBY', KEYS[4], id, 1) end
  in_chunks('LPUSH', KEYS[3], ids)
  redis.call('HDEL', KEYS[2], batch)
  redis.call('ZREM', KEYS[1], batch)
  tickets = tickets + #ids
end
return {#batches, tickets}
