-- reclaimed: lists the batches that were taken over while they held an order. Read only.
--
-- KEYS  1 reclaimed
-- ARGV  1 order id
--
-- Returns {ms, batch id, ms, batch id, ...} of those that are remembered, oldest first

local out = {}
for _, one in ipairs(reversed(redis.call('LRANGE', KEYS[1], 0, -1))) do
  local at, batch, ids = string.match(one, '^(%d+)\t([^\t]*)\t(.*)$')
  if at and string.find(',' .. ids .. ',', ',' .. ARGV[1] .. ',', 1, true) then
    out[#out + 1] = at
    out[#out + 1] = batch
  end
end
return out
