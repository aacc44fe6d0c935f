-- renew: lets several instances spend one rate together.
-- Tokens fall into a pool by Redis' clock. Each caller is dealt a part of all tokens: its demand's
-- part of everybody's. It gets no more than it wants and the pool has, and gives back what it holds
-- beyond. A caller that does not come back in time lapses: its demand no longer counts, and only
-- the tokens it held are lost.
--
-- KEYS  1 budget (hash: pool, at; one field per instance: "demand held until_ms")
-- ARGV  1 instance  2 tokens per second  3 most tokens, pooled and held together
--       4 requests per second the caller sees  5 tokens the caller holds, negative when it owes
--       6 ms after which the caller lapses; 0: it leaves  7 most tokens it wants to hold
--
-- Returns {tokens dealt, negative when it gave back; the caller's part in millionths;
--          instances that share}

local now = now_ms()
local id, rate, depth = 'i:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local demand, held = tonumber(ARGV[4]), tonumber(ARGV[5])
local lapse, wants = tonumber(ARGV[6]), tonumber(ARGV[7])

local pool, at, gone, others, demands, count = depth, now, {}, 0, 0, 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if name == 'pool' then pool = tonumber(value)
  elseif name == 'at' then at = tonumber(value)
  elseif name ~= id then
    local d, h, till = string.match(value, '^(%S+) (%S+) (%S+)$')
    till = tonumber(till)
    -- Nobody asks for that long a lease: the clock was set back.
    if not till or till <= now or till > now + 60000 then gone[#gone + 1] = name
    else
      others, demands, count = others + math.max(tonumber(h), 0), demands + tonumber(d), count + 1
    end
  end
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end

pool = pool + rate * math.max(now - at, 0) / 1000
local dealt = -held
if lapse > 0 then
  -- The bound on what lies idle. Spent tokens were reported as held a moment ago, which leaves it on
  -- the safe side.
  pool = math.max(math.min(pool, depth - others - math.max(held, 0)), 0)
  local due = demands > 0 and demand / (demands + demand) or 1
  local target = math.min(math.floor(due * (pool + held + others)), wants)
  if held < 1 and pool >= 1 and wants >= 1 then target = math.max(target, 1) end
  dealt = math.min(target - held, math.floor(pool))
  local mine = string.format('%.3f %.0f %.0f', demand, held + dealt, now + lapse)
  redis.call('HSET', KEYS[1], id, mine)
else
  redis.call('HDEL', KEYS[1], id)
end
local left = string.format('%.6f', math.min(pool - dealt, depth))
redis.call('HSET', KEYS[1], 'pool', left, 'at', int(now))
-- By then the pool is full, as a new one is.
redis.call('PEXPIRE', KEYS[1], int(math.ceil(depth / rate * 1000) + 60000))
-- What an instance goes on with when Redis is away: a quiet one counts a little.
local floor = rate / 20
local part = (demand + floor) / (demands + demand + (count + 1) * floor)
return {dealt, math.floor(part * 1000000), lapse > 0 and count + 1 or count}
