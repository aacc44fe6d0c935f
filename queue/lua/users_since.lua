-- users_since: lists the users of tickets that were admitted after a sequence.
-- Gateways keep their seen-users filters current with it. Read only.
--
-- KEYS  1 meta  2 wait  3 orders  4 recent
-- ARGV  1 epoch the caller knows  2 sequence  3 most tickets
--
-- Returns {sequence of the newest ticket, user, user, ...}
--         {}  the line is missing, of another epoch or being rebuilt, or not all of those tickets
--             wait or were claimed lately: the caller must read all users anew

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'seq')
if meta[1] ~= ARGV[1] or meta[2] then return {} end
local from, newest = tonumber(ARGV[2]), tonumber(meta[3])
local n = newest - from
if n < 0 or n > tonumber(ARGV[3]) then return {} end
local out = {meta[3]}
if n == 0 then return out end
local ids = redis.call('LRANGE', KEYS[2], 0, n - 1)
local seen, found = {}, 0
for first = 1, #ids, 1000 do
  local records = redis.call('HMGET', KEYS[3], unpack(ids, first, math.min(first + 999, #ids)))
  for i = 1, #records do
    local seq, user = string.match(records[i] or '', '^%a\t(%d+)\t%d+\t%d+\t([^\t]*)\t')
    seq = tonumber(seq)
    if seq and seq > from and not seen[seq] then
      seen[seq] = true
      found = found + 1
      out[#out + 1] = user
    end
  end
end
for first = 0, recent_kept - 1, 500 do
  if found >= n then break end
  for _, one in ipairs(redis.call('LRANGE', KEYS[4], first, first + 499)) do
    local seq, user = string.match(one, '^(%d+)\t(.*)$')
    seq = tonumber(seq)
    if seq > from and not seen[seq] then
      seen[seq] = true
      found = found + 1
      out[#out + 1] = user
    end
  end
end
if found < n then return {} end
return out
