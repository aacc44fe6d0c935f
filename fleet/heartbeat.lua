-- heartbeat: an instance says that it runs, or leaves. Those that have lapsed are forgotten.
--
-- KEYS  1 instances (hash: id → "seen_ms until_ms card")
-- ARGV  1 id; '' only lists  2 card  3 ms after which it lapses; 0: it leaves
--
-- Returns {id, seen ms, card, id, …} of those that run

local now = now_ms()
if ARGV[1] ~= '' then
  if tonumber(ARGV[3]) > 0 then
    local until_ms = int(now + tonumber(ARGV[3]))
    redis.call('HSET', KEYS[1], ARGV[1], int(now) .. ' ' .. until_ms .. ' ' .. ARGV[2])
  else
    redis.call('HDEL', KEYS[1], ARGV[1])
  end
end
local out, gone = {}, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seen, till, card = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
  if not till or tonumber(till) <= now then gone[#gone + 1] = all[i]
  else
    out[#out + 1] = all[i]
    out[#out + 1] = seen
    out[#out + 1] = card
  end
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
return out
