-- claim: leases the messages that are due longest.
-- The attempt is counted here, before the call. So a message that kills its dispatcher each time runs
-- out of attempts, too.
--
-- KEYS  1 due  2 firing  3 messages  4 tries  5 version  6 about
-- ARGV  1 most messages  2 lease in ms  3 token (never used before)
--       4 version of the topic that the caller knows
--
-- Returns {now in ms, then per message: id, attempts with this one, when it was due in ms, body,
--          when it was added in ms, about ("" for none)}
--         {"", version}  the caller's version is not the newest ("" when Redis has none)

local newer = outdated(KEYS[5], ARGV[4])
if newer then return {'', newer} end
local now = now_ms()
local found =
  redis.call('ZRANGE', KEYS[1], '-inf', int(now), 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
if #found == 0 then return {int(now)} end
local ids = {}
for i = 1, #found, 2 do ids[#ids + 1] = found[i] end
local records = redis.call('HMGET', KEYS[3], unpack(ids))
local tried = redis.call('HMGET', KEYS[4], unpack(ids))
local abouts = redis.call('HMGET', KEYS[6], unpack(ids))
local out, leases, tries = {int(now)}, {}, {}
local until_ms = int(now + tonumber(ARGV[2]))
for i, id in ipairs(ids) do
  -- Without a record there is nothing to deliver: only a restored backup could leave such an id.
  local added, body = string.match(records[i] or '', '^w\t(%d+)\t%d+\t(.*)$')
  if body then
    local attempts, _, err = read_try(tried[i])
    leases[#leases + 1] = until_ms
    leases[#leases + 1] = id
    tries[#tries + 1] = id
    tries[#tries + 1] = int(attempts + 1) .. '\t' .. ARGV[3] .. '\t' .. err
    out[#out + 1] = id
    out[#out + 1] = int(attempts + 1)
    out[#out + 1] = found[2 * i]
    out[#out + 1] = body
    out[#out + 1] = added
    out[#out + 1] = abouts[i] or ''
  end
end
in_chunks('ZREM', KEYS[1], ids)
in_chunks('ZADD', KEYS[2], leases)
in_chunks('HSET', KEYS[4], tries)
return out
