-- claim: moves the oldest tickets of a line into a fresh batch and leases it, in one step.
-- A suspect (a ticket that failed, or whose worker died) is claimed alone, so that it can only hurt itself.
--
-- KEYS  1 meta  2 wait  3 suspect  4 lease  5 leased  6 orders  7 attempts
-- ARGV  1 most tickets  2 lease in ms  3 batch id (never used before)
--
-- Returns {} when there is nothing to claim or the line is being rebuilt,
-- else {epoch, solo (1 a suspect, 0 not), then per ticket: id, record ("" when it has none), failed attempts}.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'claimed')
if not meta[1] or meta[2] then return {} end
local solo, ids = 1, {redis.call('RPOP', KEYS[3])}
if not ids[1] then
  solo, ids = 0, redis.call('RPOP', KEYS[2], ARGV[1])
end
if not ids or #ids == 0 then return {} end

local records = redis.call('HMGET', KEYS[6], unpack(ids))
local out, last = {meta[1], solo}, tonumber(meta[3])
local attempts = solo == 1 and redis.call('HGET', KEYS[7], ids[1]) or '0'
for i = 1, #ids do
  local record = records[i] or ''
  out[#out + 1] = ids[i]
  out[#out + 1] = record
  out[#out + 1] = attempts
  local seq = tonumber(string.match(record, '^%a\t(%d+)\t') or '0')
  if seq > last then last = seq end
end
-- For suspects too: after a rebuild they can be newer than what waits, and cancel must see that a worker has them.
if last > tonumber(meta[3]) then redis.call('HSET', KEYS[1], 'claimed', int(last)) end
redis.call('HSET', KEYS[5], ARGV[3], table.concat(ids, ','))
redis.call('ZADD', KEYS[4], int(now_ms() + tonumber(ARGV[2])), ARGV[3])
return out
