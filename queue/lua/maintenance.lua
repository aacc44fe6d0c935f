-- maintenance: looks whether a line has work that nobody announced.
-- Asked of every line several times a second, it reads no ticket and writes nothing.
--
-- KEYS  1 wait  2 isolated  3 lease  4 leased  5 retry  6 meta
-- ARGV  1 longest delay in ms
--
-- Returns a sum: 1 tickets can be claimed
--                2 batches are to be taken over (see reclaim)
--                4 delays are over (see promote)

local now, found = now_ms(), 0

-- over reports that a time has come, or is further away than it can have been set.
local function over(key, most)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if not first[2] then return false end
  if tonumber(first[2]) <= now then return true end
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  return most and tonumber(last[2]) > now + most
end

if redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) > 0 then found = 1 end
local longest = tonumber(redis.call('HGET', KEYS[6], 'lease') or nil)
local unleased = redis.call('HLEN', KEYS[4]) > redis.call('ZCARD', KEYS[3])
if over(KEYS[3], longest) or unleased then found = found + 2 end
if over(KEYS[5], tonumber(ARGV[1])) then found = found + 4 end
return found
