-- leases: lists the batches that workers hold, those first whose lease ends first. Read only.
--
-- KEYS  1 lease  2 leased
-- ARGV  1 batches to skip  2 most batches  3 most order ids of each
--
-- Returns {now in ms, how many there are in all,
--          then per batch: id, deadline in ms, how many tickets,
--          first order ids with commas between}

local last = int(tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1)
local held = redis.call('ZRANGE', KEYS[1], ARGV[1], last, 'WITHSCORES')
local out = {int(now_ms()), redis.call('ZCARD', KEYS[1])}
for i = 1, #held, 2 do
  local ids = split(redis.call('HGET', KEYS[2], held[i]) or '')
  out[#out + 1] = held[i]
  out[#out + 1] = held[i + 1]
  out[#out + 1] = #ids
  out[#out + 1] = table.concat(ids, ',', 1, math.min(#ids, tonumber(ARGV[3])))
end
return out
