-- claim: moves the oldest tickets of a line into a fresh batch and leases it, in one step.
-- A suspect (a ticket that failed, or whose worker died) is claimed alone, so that it can only hurt itself.
--
-- KEYS  1 meta  2 wait  3 suspect  4 lease  5 leased  6 orders  7 attempts
-- ARGV  1 lease in ms  2 batch id (never used before)  3 most tickets  4 least  5 share  6 1 with suspects, 0 without
--       least and share: of more waiting tickets than least, one part in so many is claimed, but least at least
--
-- Returns {} when there is nothing to claim or the line is being rebuilt,
-- else {epoch, solo (1 a suspect, 0 not), failed attempts of a suspect, tickets still waiting,
--       ids with commas between, records with line feeds between ("" for a ticket that has none)}.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'claimed')
if not meta[1] or meta[2] then return {} end
local solo, ids, left = 1, {ARGV[6] == '1' and redis.call('RPOP', KEYS[3])}, redis.call('LLEN', KEYS[2])
if not ids[1] then
  local n = math.min(tonumber(ARGV[3]), math.max(tonumber(ARGV[4]), math.ceil(left / tonumber(ARGV[5]))))
  solo, ids = 0, redis.call('RPOP', KEYS[2], int(n))
end
if not ids or #ids == 0 then return {} end

local claimed = tonumber(meta[3])
local records, last = records_of(KEYS[6], ids, 1, #ids), claimed
for i = 1, #ids do
  local record = records[i]
  if not record then records[i] = ''
  else
    local seq = tonumber(string.match(record, '^%a\t(%d+)\t') or '0')
    if seq > last then last = seq end
  end
end
-- For suspects too: after a rebuild they can be newer than what waits, and cancel must see that a worker has them.
if last > claimed then redis.call('HSET', KEYS[1], 'claimed', int(last)) end
local list = table.concat(ids, ',')
redis.call('HSET', KEYS[5], ARGV[2], list)
redis.call('ZADD', KEYS[4], int(now_ms() + tonumber(ARGV[1])), ARGV[2])
local attempts = solo == 1 and redis.call('HGET', KEYS[7], ids[1]) or '0'
if solo == 0 then left = left - #ids end
return {meta[1], solo, attempts, left, list, table.concat(records, '\n')}
