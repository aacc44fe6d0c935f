-- claim: moves the oldest tickets of a line into a new batch and leases it, in one step.
-- An isolated ticket has failed, or lost its worker. It is claimed alone, so that it can only hurt
-- itself. While many wait, those of at most one attempt are claimed in groups: a worker that dies
-- may leave thousands, and few are to blame.
--
-- KEYS  1 meta  2 wait  3 isolated  4 lease  5 leased  6 orders  7 attempts  8 recent
-- ARGV  1 lease in ms  2 batch id (never used before)  3 most tickets  4 least  5 share
--       6 most isolated tickets in a group (0: claim none, 1: alone)
--       7 highest revision of the line that the caller has seen
--       Of more waiting tickets than least, one part in share is claimed, but least at least.
--
-- Returns {}  nothing to claim, or the line is not ready or older than the caller has seen
--         {epoch, isolated (1 they are, 0 not), failed attempts of an isolated one (1 of a group),
--          tickets still waiting, ids with commas between,
--          records with line feeds between ("" for a ticket that has none),
--          newest change of the ledger that the line knows of, revision of the line}

local meta =
  redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'claimed', 'run', 'rev', 'ledger', 'lease')
if not ready(meta[1], meta[2], meta[4]) or tonumber(meta[5]) < tonumber(ARGV[7]) then return {} end
local left = redis.call('LLEN', KEYS[2])

-- take_isolated claims one isolated ticket. While more than two groups wait, it claims a row of
-- those that failed once at most.
local function take_isolated(most)
  local waiting = redis.call('LLEN', KEYS[3])
  if most < 1 or waiting == 0 then return nil end
  local n = 0
  if most > 1 and waiting > 2 * most then
    local next = redis.call('LRANGE', KEYS[3], -most, -1)
    local tries = redis.call('HMGET', KEYS[7], unpack(next))
    while n < #next and tonumber(tries[#next - n] or '0') <= 1 do n = n + 1 end
  end
  return redis.call('RPOP', KEYS[3], int(math.max(n, 1)))
end

local isolated, ids = 1, take_isolated(tonumber(ARGV[6]))
if not ids then
  local share = math.ceil(left / tonumber(ARGV[5]))
  local n = math.min(tonumber(ARGV[3]), math.max(tonumber(ARGV[4]), share))
  isolated, ids = 0, redis.call('RPOP', KEYS[2], int(n))
end
if not ids or #ids == 0 then return {} end

local claimed = tonumber(meta[3])
local records, last, names = records_of(KEYS[6], ids, 1, #ids), claimed, {}
-- Behind as many that still wait nobody looks for the names.
local named = isolated == 0 and left - #ids < recent_kept
local pattern = named and '^%a\t(%d+)\t%d+\t%d+\t([^\t]*)\t' or '^%a\t(%d+)\t%d+\t%d+\t'
for i = 1, #ids do
  local record = records[i]
  if not record then records[i] = ''
  else
    local seq, user = string.match(record, pattern)
    local number = tonumber(seq)
    if number and number > last then
      last = number
      if named then names[#names + 1] = seq .. '\t' .. user end
    end
  end
end
-- For isolated tickets too: after a rebuild they can be newer than what waits, and cancel must see
-- that a worker has them.
if last > claimed then redis.call('HSET', KEYS[1], 'claimed', int(last)) end
if #names > 0 then name_recent(KEYS[8], names) end
local list = table.concat(ids, ',')
redis.call('HSET', KEYS[5], ARGV[2], list)
redis.call('ZADD', KEYS[4], lease_ends(KEYS[1], meta[7], ARGV[1]), ARGV[2])
local attempts = '0'
if isolated == 0 then left = left - #ids
elseif #ids > 1 then attempts = '1'
else attempts = redis.call('HGET', KEYS[7], ids[1]) or '0' end
return {meta[1], isolated, attempts, left, list, table.concat(records, '\n'), meta[6] or '0',
  moved(KEYS[1])}
