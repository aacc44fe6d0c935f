-- snapshot: reads everything the audit compares, at one instant.
--
-- KEYS  1 meta  2 stock  3 wait  4 isolated  5 lease  6 leased  7 retry  8 orders
-- ARGV  none
--
-- Returns {} when the line does not exist, else
--         {epoch, gate (1 or 0), version, total, stock, seq, released,
--          batches without a lease, leases without a batch, sequence when the line was loaded,
--          sequences drawn since that are no tickets, tickets that the cap bounds,
--          then per ticket in wait, leased, isolated or retry: id, units, sequence}
--         units is 0 for one that ended in the line, -1 for an id without a readable record;
--         a cancelled ticket that still holds its units has them

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'version', 'total', 'seq', 'released',
  'base', 'marks', 'served', 'ended')
if not meta[1] then return {} end
local ids = {}
for _, key in ipairs({KEYS[3], KEYS[4]}) do
  for from = 0, redis.call('LLEN', key) - 1, 1000 do
    for _, id in ipairs(redis.call('LRANGE', key, from, from + 999)) do ids[#ids + 1] = id end
  end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[7], 0, -1)) do ids[#ids + 1] = id end
local unleased, leased = 0, redis.call('HGETALL', KEYS[6])
for i = 1, #leased, 2 do
  if not redis.call('ZSCORE', KEYS[5], leased[i]) then unleased = unleased + 1 end
  for _, id in ipairs(split(leased[i + 1])) do ids[#ids + 1] = id end
end
local empty = redis.call('ZCARD', KEYS[5]) - (#leased / 2 - unleased)

local live = int(live_tickets(meta[5] or '0', meta[9], meta[10]))
local out = {meta[1], meta[2] and '1' or '0', meta[3] or '0', meta[4] or '0',
  redis.call('GET', KEYS[2]) or '0', meta[5] or '0', meta[6] or '0', int(unleased), int(empty),
  meta[7] or '0', meta[8] or '0', live}
for from = 1, #ids, 1000 do
  local to = math.min(from + 999, #ids)
  local records = redis.call('HMGET', KEYS[8], unpack(ids, from, to))
  for i = from, to do
    local record = records[i - from + 1]
    local state, seq, units
    if record then state, seq, units = string.match(record, '^(%a)\t(%d+)\t(%d+)\t') end
    if not state then seq, units = '0', '-1'
    elseif state ~= 'q' and not let_go(record) then units = '0' end
    out[#out + 1] = ids[i]
    out[#out + 1] = units
    out[#out + 1] = seq
  end
end
return out
