-- settle: ends a batch, ticket by ticket, but only while its lease stands.
-- A worker that comes late finds no lease and changes nothing: whoever took the batch over decides.
--
-- KEYS  1 meta  2 stock  3 lease  4 leased  5 orders  6 holders  7 wait  8 suspect  9 retry  10 attempts  11 dead  12 done  13 due
-- ARGV  1 batch id  2 most finished records kept  3 most dead letters kept  4 status channel  5 sale  6 stock channel
--       then per ticket: id, op, value, when it was confirmed or ended in ms ("": now)
--       op  c confirmed: the order exists            (value: when it must be paid in ms, "": never)
--           p paid: the order exists and is paid     (value: when it was paid in ms)
--           f failed for good: units and slot return (value: reason)
--           x dead-lettered: as f, and kept for an operator (value: reason)
--           k a cancelled ticket that is now recorded       (value unused)
--           e it had ended before, and Redis forgot: units and slot return (value: its state)
--           r try again alone, counts an attempt     (value: delay in ms)
--           b back to where it came from, counts nothing (value: "wait" or "suspect")
--
-- Returns 1 settled, 0 fenced (the lease had gone; nothing was done).

if redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[4], ARGV[1])
local now = now_ms()
local ids = {}
for a = 7, #ARGV, 4 do ids[#ids + 1] = ARGV[a] end
local records = redis.call('HMGET', KEYS[5], unpack(ids))
local changed, finished, news, served = {}, {}, {ARGV[5]}, 0
local back, again, due, told = {}, {}, {}, {ARGV[6], ARGV[5]}

local function tell(id, record, state, at, reason, pay)
  changed[#changed + 1] = id
  changed[#changed + 1] = ended(record, state, tonumber(at) or now, reason, pay)
  news[#news + 1] = id .. ' ' .. state
end

for i = 1, #ids do
  local a = 7 + (i - 1) * 4
  local id, op, value, record = ids[i], ARGV[a + 1], ARGV[a + 2], records[i]
  -- Only what ended() can rewrite: an error halfway would undo nothing and lose the whole batch.
  local live = record and string.find(record, '^q\t%d+\t%d+\t%d+\t[^\t]*\t%d+\t[^\t]*\t%d+\t%d+\t')
  -- A confirmed order's record stays as long as the line: without it its units could never come back.
  local sold = record and string.find(record, '^[cp]\t')
  if op == 'b' then
    if value == 'suspect' then again[#again + 1] = id else back[#back + 1] = id end
  elseif op == 'r' then
    redis.call('HINCRBY', KEYS[10], id, 1)
    redis.call('ZADD', KEYS[9], int(now + tonumber(value)), id)
  else
    served = served + 1
    redis.call('HDEL', KEYS[10], id)
    if (op == 'c' or op == 'p') and live then
      tell(id, record, op, ARGV[a + 3], '', value)
      if op == 'c' and value ~= '' then
        due[#due + 1] = value
        due[#due + 1] = id
      end
    elseif op == 'f' or op == 'x' or op == 'e' then
      if not live and record and string.find(record, '^q\t%d+\t%d+\t%d+\t[^\t]+\t') then
        -- Not readable as a whole, but what it holds is: that returns, and the record says so.
        give_back(KEYS[2], KEYS[6], id, record, told)
        changed[#changed + 1] = id
        changed[#changed + 1] = 'f' .. string.sub(record, 2)
      elseif live then
        give_back(KEYS[2], KEYS[6], id, record, told)
        if op == 'e' then tell(id, record, value, ARGV[a + 3], '') else tell(id, record, 'f', ARGV[a + 3], value) end
      end
      if op == 'x' then redis.call('LPUSH', KEYS[11], id)
      elseif not sold then finished[#finished + 1] = id end
    elseif op == 'k' and not sold then
      finished[#finished + 1] = id
    end
  end
end

in_chunks('HSET', KEYS[5], changed)
in_chunks('ZADD', KEYS[13], due)
-- The oldest must be popped first again: it goes back last.
for i = #back, 1, -1 do redis.call('RPUSH', KEYS[7], back[i]) end
for i = #again, 1, -1 do redis.call('RPUSH', KEYS[8], again[i]) end
local over = redis.call('LLEN', KEYS[11]) - tonumber(ARGV[3])
for _ = 1, over do finished[#finished + 1] = redis.call('RPOP', KEYS[11]) end
keep_done(KEYS[12], KEYS[5], finished, tonumber(ARGV[2]))
if served > 0 then redis.call('HINCRBY', KEYS[1], 'served', served) end
if #news > 1 then redis.call('PUBLISH', ARGV[4], table.concat(news, '\n')) end
return 1
