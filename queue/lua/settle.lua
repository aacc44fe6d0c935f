-- settle: ends a batch, ticket by ticket, but only while its lease stands.
-- A worker that comes late finds no lease and changes nothing: whoever took the batch over decides.
--
-- KEYS  1 meta  2 stock  3 lease  4 leased  5 orders  6 holders  7 wait  8 isolated  9 retry
--       10 attempts  11 dead  12 done  13 due
-- ARGV  1 batch id  2 most finished records kept  3 most dead letters kept  4 status channel
--       5 sale  6 stock channel
--       7 newest change of the ledger that the caller has committed, 0 when none
--       then per run of tickets that end alike: op, value,
--       when they were confirmed or ended in ms ("": now), how many, their ids
--
--       op  ends as                                             value
--       c   confirmed: the order exists                         when it must be paid, ms; "": never
--       p   paid: the order exists and is paid                  when it was paid, ms
--       f   failed for good: units and slot return              reason
--       x   dead letter: as f, and kept for an operator         reason
--       k   cancelled, now recorded: what it held returns       unused
--       e   had ended, and Redis forgot: units and slot return  its state
--       r   try again alone, counts an attempt                  delay, ms
--       b   back to where it came from, counts nothing          "wait" or "isolated"
--       and two that are no end of their own
--       m   these have a row under an earlier sequence          unused
--       n   this could not be read and is written anew          its record
--           tickets of m end in another run, those of n in a later one
--
-- Returns {1, revision of the line}  settled
--         {0}  fenced: nothing was done. The lease had gone, or the line is not ready, and its
--              rebuild takes the batch over

-- Fails before the first write where the key is no hash: a batch without a lease would be nobody's.
redis.call('HLEN', KEYS[6])
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'run', 'ledger', 'base')
if not ready(meta[1], meta[2], meta[3]) then return {0} end
if redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then return {0} end
redis.call('HDEL', KEYS[4], ARGV[1])
local now = now_ms()
local changed, finished, news, ended_ids, served, early = {}, {}, {}, {}, 0, 0
local back, again, due, news_of = {}, {}, {}, {ARGV[6], ARGV[5]}
local tried = redis.call('EXISTS', KEYS[10]) == 1 -- somebody's attempts have been counted

local function tell(id, record, state)
  changed[#changed + 1] = id
  changed[#changed + 1] = record
  if not news[state] then news[state] = {} end
  news[state][#news[state] + 1] = id
end

-- A ticket: all that a record in another state keeps of it.
local live = '^q(\t%d+\t%d+\t%d+\t[^\t]*\t%d+\t[^\t]*\t%d+\t%d+)\t'

-- What is left of a record after its head, in a new state; at is "" for now.
local function tail(at, reason, pay)
  return '\t' .. int(tonumber(at) or now) .. '\t' .. reason .. '\t\t\t\t' .. pay
end

-- confirm shows tickets as orders. What cannot be rewritten stays as it is: an error halfway would
-- undo nothing and lose the whole batch.
local function confirm(from, to, op, value, at)
  local ids, match = ARGV, string.match
  local records, rest = records_of(KEYS[5], ids, from, to), tail(at, '', value)
  local same, owed = news[op] or {}, op == 'c' and value ~= ''
  -- Counted here: to ask for a length is dear, and this is done for every order.
  local c, s = #changed, #same
  for i = from, to do
    local record = records[i - from + 1]
    local head = record and match(record, live)
    if head then
      local id = ids[i]
      c, s = c + 2, s + 1
      changed[c - 1], changed[c], same[s] = id, op .. head .. rest .. refund_mark(record), id
      if owed then
        due[#due + 1] = value
        due[#due + 1] = id
      end
    elseif ended_early(record) then early = early + 1
    end
  end
  if s > 0 then news[op] = same end
end

local function fail(id, record, op, value, at)
  local head = record and string.match(record, live)
  if head then
    give_back(KEYS[2], KEYS[6], id, record, news_of)
    local state, reason = 'f', value
    if op == 'e' then state, reason = value, '' end
    tell(id, state .. head .. tail(at, reason, '') .. refund_mark(record), state)
  elseif record and string.find(record, '^q\t%d+\t%d+\t%d+\t[^\t]+\t') then
    -- Not readable as a whole, but what it holds is: that returns, and the record says so.
    give_back(KEYS[2], KEYS[6], id, record, news_of)
    changed[#changed + 1] = id
    changed[#changed + 1] = 'f' .. string.sub(record, 2)
  end
end

local function close(from, to, op, value, at)
  local records = records_of(KEYS[5], ARGV, from, to)
  for i = from, to do
    local id, record = ARGV[i], records[i - from + 1]
    if ended_early(record) then early = early + 1 end
    local free = let_go(record)
    if free then
      give_back(KEYS[2], KEYS[6], id, record, news_of)
      changed[#changed + 1] = id
      changed[#changed + 1] = free
    elseif op ~= 'k' then fail(id, record, op, value, at) end
    -- A confirmed order's record stays as long as the line: without it its units could never come
    -- back.
    local sold = record and string.find(record, '^[cp]\t')
    if op == 'x' then redis.call('LPUSH', KEYS[11], id)
    elseif not sold then finished[#finished + 1] = id end
  end
end

-- mark counts the sequences of this loading that are no orders of their own.
local function mark(from, to)
  local records = records_of(KEYS[5], ARGV, from, to)
  local base, n = tonumber(meta[5] or '0'), 0
  for i = 1, #records do
    local seq = records[i] and string.match(records[i], '^%a\t(%d+)\t')
    if seq and tonumber(seq) > base then n = n + 1 end
  end
  if n > 0 then redis.call('HINCRBY', KEYS[1], 'marks', n) end
end

local a = 8
while ARGV[a] do
  local op, value, at, from = ARGV[a], ARGV[a + 1], ARGV[a + 2], a + 4
  local to = from + tonumber(ARGV[a + 3]) - 1
  if op == 'm' then mark(from, to)
  elseif op == 'n' then redis.call('HSET', KEYS[5], ARGV[from], value)
  elseif op == 'b' then
    local list = back
    if value == 'isolated' then list = again end
    for i = from, to do list[#list + 1] = ARGV[i] end
  elseif op == 'r' then
    for i = from, to do
      redis.call('HINCRBY', KEYS[10], ARGV[i], 1)
      redis.call('ZADD', KEYS[9], int(now + tonumber(value)), ARGV[i])
    end
  else
    served = served + to - from + 1
    if tried then
      for i = from, to do ended_ids[#ended_ids + 1] = ARGV[i] end
    end
    if op == 'c' or op == 'p' then confirm(from, to, op, value, at)
    else close(from, to, op, value, at) end
  end
  a = to + 1
end

in_chunks('HSET', KEYS[5], changed)
in_chunks('ZADD', KEYS[13], due)
in_chunks('HDEL', KEYS[10], ended_ids)
-- The oldest must be popped first again: it goes back last.
in_chunks('RPUSH', KEYS[7], reversed(back))
in_chunks('RPUSH', KEYS[8], reversed(again))
local over = redis.call('LLEN', KEYS[11]) - tonumber(ARGV[3])
for _ = 1, over do finished[#finished + 1] = redis.call('RPOP', KEYS[11]) end
keep_done(KEYS[1], KEYS[12], KEYS[5], finished, tonumber(ARGV[2]))
if served > 0 then redis.call('HINCRBY', KEYS[1], 'served', served) end
if early > 0 then redis.call('HINCRBY', KEYS[1], 'ended', -early) end
local lines = {ARGV[5]}
for state, ids in pairs(news) do
  lines[#lines + 1] = table.concat(ids, ' ' .. state .. '\n') .. ' ' .. state
end
if #lines > 1 then redis.call('PUBLISH', ARGV[4], table.concat(lines, '\n')) end
if tonumber(ARGV[7]) > tonumber(meta[4] or '0') then
  redis.call('HSET', KEYS[1], 'ledger', ARGV[7])
end
return {1, moved(KEYS[1])}
