-- extend: moves the ends of leases, each only while it stands.
--
-- KEYS  1 firing  2 tries
-- ARGV  1 how long from now in ms
--       then per message: id, token
--
-- Returns a list with 1 (moved) or 0 (fenced) per message

local ids, out, leases = {}, {}, {}
for a = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[a] end
local tried = redis.call('HMGET', KEYS[2], unpack(ids))
local until_ms = int(now_ms() + tonumber(ARGV[1]))
for i, id in ipairs(ids) do
  local _, holds = read_try(tried[i])
  out[i] = (holds ~= '' and holds == ARGV[2 * i + 1]) and 1 or 0
  if out[i] == 1 then
    leases[#leases + 1] = until_ms
    leases[#leases + 1] = id
  end
end
in_chunks('ZADD', KEYS[1], leases)
return out
