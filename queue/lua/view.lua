-- view: reads together the numbers of a line that gateways and metrics look at.
--
-- KEYS  1 meta  2 stock  3 wait  4 isolated  5 lease  6 retry  7 dead  8 orders
-- ARGV  none
--
-- Returns {} when the line does not exist, else
--         {epoch, gate (1 or 0), version, state, cap, seq, claimed, served, stock,
--          waiting, isolated, batches leased, retrying, dead, age of the oldest in ms, now in ms,
--          server on which it was last compared with the ledger, this server, revision,
--          newest change of the ledger that the line knows of, tickets that the cap bounds,
--          records of finished orders that it has forgotten}

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'version', 'state', 'cap', 'seq', 'claimed',
  'served', 'run', 'rev', 'ledger', 'ended', 'forgotten')
if not meta[1] then return {} end
local now, age = now_ms(), 0
local oldest = redis.call('LINDEX', KEYS[4], -1) or redis.call('LINDEX', KEYS[3], -1)
if oldest then
  local record = redis.call('HGET', KEYS[8], oldest)
  local admitted = record and string.match(record, '^%a\t%d+\t%d+\t%d+\t[^\t]*\t(%d+)\t')
  if admitted then age = now - tonumber(admitted) end
end
return {meta[1], meta[2] and '1' or '0', meta[3] or '0', meta[4] or '', meta[5] or '0',
  meta[6] or '0', meta[7] or '0', meta[8] or '0', redis.call('GET', KEYS[2]) or '0',
  redis.call('LLEN', KEYS[3]), redis.call('LLEN', KEYS[4]), redis.call('ZCARD', KEYS[5]),
  redis.call('ZCARD', KEYS[6]), redis.call('LLEN', KEYS[7]), int(age), int(now), meta[9] or '',
  server_id(), meta[10] or '0', meta[11] or '0',
  int(live_tickets(meta[6] or '0', meta[8], meta[12])), meta[13] or '0'}
