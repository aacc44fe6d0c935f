-- reclaim: takes over batches from workers that died or outlived their lease.
-- Three kinds: their lease has run out; it ends later than any that was given, since Redis' clock
-- was set back; or they have none. No script leaves the last kind behind, but a restored backup
-- might. Each ticket counts one failed attempt and becomes isolated: it may have killed the worker.
--
-- KEYS  1 lease  2 leased  3 isolated  4 attempts  5 reclaimed  6 meta
-- ARGV  1 most batches of a kind  2 most reclaimed batches that are remembered
--       3 for how many ms after the last
--
-- Returns {batches, tickets} taken over; none while the line is not ready: its rebuild takes all

local meta = redis.call('HMGET', KEYS[6], 'epoch', 'gate', 'run', 'lease')
if not ready(meta[1], meta[2], meta[3]) then return {0, 0} end
local now = int(now_ms())
local batches = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
if meta[4] then
  local beyond = '(' .. int(now_ms() + tonumber(meta[4]))
  local set_back = redis.call('ZRANGE', KEYS[1], beyond, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[1])
  for _, batch in ipairs(set_back) do batches[#batches + 1] = batch end
end
if redis.call('HLEN', KEYS[2]) > redis.call('ZCARD', KEYS[1]) then
  for _, batch in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not redis.call('ZSCORE', KEYS[1], batch) then batches[#batches + 1] = batch end
  end
end
local tickets = 0
for _, batch in ipairs(batches) do
  local listed = redis.call('HGET', KEYS[2], batch) or ''
  local ids = split(listed)
  redis.call('LPUSH', KEYS[5], now .. '\t' .. batch .. '\t' .. listed)
  for _, id in ipairs(ids) do redis.call('HINCRBY', KEYS[4], id, 1) end
  in_chunks('LPUSH', KEYS[3], ids)
  redis.call('HDEL', KEYS[2], batch)
  redis.call('ZREM', KEYS[1], batch)
  tickets = tickets + #ids
end
if #batches > 0 then
  redis.call('LTRIM', KEYS[5], 0, ARGV[2] - 1)
  redis.call('PEXPIRE', KEYS[5], ARGV[3])
  moved(KEYS[6])
end
return {#batches, tickets}
