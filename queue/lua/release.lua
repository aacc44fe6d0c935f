-- release: brings orders that ended in the database (cancelled, expired) back into the line.
-- Called after that transaction, as often as it takes: only the first call finds the order
-- confirmed. A paid order is never brought back: a late caller may mean an expiry that a late
-- payment has undone since.
--
-- KEYS  1 meta  2 stock  3 orders  4 holders  5 done  6 released  7 due  8 cancels
-- ARGV  1 most finished records kept  2 status channel  3 sale  4 most released ids kept
--       5 stock channel
--       6 newest change of the ledger that the caller has committed, 0 when it does not know
--       then per order: id, state (x or e)
--
-- Returns {how many were brought back now, revision of the line}
--         {-1}  the line is not ready: nothing was done

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'run', 'ledger')
if not ready(meta[1], meta[2], meta[3]) then return {-1} end
local now, finished, news = now_ms(), {}, {ARGV[3]}
for a = 7, #ARGV, 2 do
  local id, state = ARGV[a], ARGV[a + 1]
  local record = redis.call('HGET', KEYS[3], id)
  redis.call('ZREM', KEYS[7], id)
  -- One that cannot be read stays, and a rebuild writes it anew: its units would come back with every
  -- call.
  local after = record and string.sub(record, 1, 1) == 'c' and ended(record, state, now, '')
  if after then
    give_back(KEYS[2], KEYS[4], id, record, {ARGV[5], ARGV[3]})
    redis.call('HSET', KEYS[3], id, after)
    if state == 'x' then
      local _, user = units_and_user(record)
      count_cancel(KEYS[1], KEYS[8], user)
    end
    finished[#finished + 1] = id
    news[#news + 1] = id .. ' ' .. state
  end
end
if #finished > 0 then
  keep_done(KEYS[1], KEYS[5], KEYS[3], finished, tonumber(ARGV[1]))
  redis.call('HINCRBY', KEYS[1], 'released', #finished)
  in_chunks('LPUSH', KEYS[6], finished)
  redis.call('LTRIM', KEYS[6], 0, tonumber(ARGV[4]) - 1)
  redis.call('PUBLISH', ARGV[2], table.concat(news, '\n'))
end
if tonumber(ARGV[6]) > tonumber(meta[4] or '0') then
  redis.call('HSET', KEYS[1], 'ledger', ARGV[6])
end
return {#finished, moved(KEYS[1])}
