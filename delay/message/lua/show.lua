-- show: reads messages.
--
-- KEYS  1 due  2 firing  3 messages  4 tries  5 dead  6 about
-- ARGV  ids
--
-- Returns per message: record ("" when there is none), try, where it is (due, firing, dead or ""),
--         its score there, about ("" for none)

local out = {}
for _, id in ipairs(ARGV) do
  local where, score = '', ''
  for i, name in pairs({[1] = 'due', [2] = 'firing', [5] = 'dead'}) do
    local found = redis.call('ZSCORE', KEYS[i], id)
    if found then where, score = name, int(tonumber(found)) end
  end
  out[#out + 1] = redis.call('HGET', KEYS[3], id) or ''
  out[#out + 1] = redis.call('HGET', KEYS[4], id) or ''
  out[#out + 1] = where
  out[#out + 1] = score
  out[#out + 1] = redis.call('HGET', KEYS[6], id) or ''
end
return out
