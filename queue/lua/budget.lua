-- budget: lets several instances spend one rate together. Tokens fall into a pool by Redis' clock; each caller is dealt the part of
-- the pool that its demand is of everybody's, and gives back what it holds beyond that. A caller that does not come back in time
-- lapses: its demand no longer counts, and only the tokens it held are lost.
--
-- KEYS  1 budget (hash: pool, at; one field per instance: "demand held until_ms")
-- ARGV  1 instance  2 tokens per second  3 most tokens, pooled and held together  4 requests per second the caller sees
--       5 tokens the caller holds, negative when it owes  6 ms after which the caller lapses; 0: it leaves
--
-- Returns {tokens dealt, negative when it gave back; the caller's part in millionths; instances that share}.

local now = now_ms()
local id, rate, depth = 'i:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local demand, held, lapse = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- A quiet instance counts a little, so that its first requests find something.
local floor = rate / 20
local pool, at, gone, others, demands, count = depth, now, {}, 0, 0, 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if name == 'pool' then pool = tonumber(value)
  elseif name == 'at' then at = tonumber(value)
  elseif name ~= id then
    local d, h, till = string.match(value, '^(%S+) (%S+) (%S+)$')
    if not till or tonumber(till) <= now then gone[#gone + 1] = name
    else
      others, demands, count = others + math.max(tonumber(h), 0), demands + tonumber(d) + floor, count + 1
    end
  end
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end

pool = pool + rate * math.max(now - at, 0) / 1000
local part, dealt = 0, -held
if lapse > 0 then
  -- The bound on what lies idle; spent tokens were reported as held a moment ago, which leaves it on the safe side.
  pool = math.max(math.min(pool, depth - others - math.max(held, 0)), 0)
  part = (demand + floor) / (demands + demand + floor)
  local target = math.floor(part * (pool + held))
  if held < 1 and pool >= 1 then target = math.max(target, 1) end
  dealt = math.min(target - held, math.floor(pool))
  redis.call('HSET', KEYS[1], id, string.format('%.3f %.0f %.0f', demand, held + dealt, now + lapse))
  count = count + 1
else
  redis.call('HDEL', KEYS[1], id)
end
redis.call('HSET', KEYS[1], 'pool', string.format('%.6f', math.min(pool - dealt, depth)), 'at', int(now))
redis.call('PEXPIRE', KEYS[1], 86400000)
return {int(dealt), int(part * 1000000), count}
