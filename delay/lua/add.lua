-- add: takes messages, all or none. One that was added before with the same body is left as it is, whatever its state.
--
-- KEYS  1 due  2 messages  3 done  4 gone
-- ARGV  1 most unfinished messages
--       then per message: id (none twice), kind, ms, body
--       kind  d due so many ms from now
--             a due at that time; a known message must have been added for the same
--
-- Returns {0, then per message when it was due as first asked, ms}, {-1, n} the n-th is known with another body or time,
-- {-2} it would be too many, {-3} the topic was deleted.

if redis.call('EXISTS', KEYS[4]) == 1 then return {-3} end
local now, ids = now_ms(), {}
for a = 2, #ARGV, 4 do ids[#ids + 1] = ARGV[a] end
local known = redis.call('HMGET', KEYS[2], unpack(ids))
local out, fresh, scores = {0}, {}, {}
for i = 1, #ids do
  local a = 2 + (i - 1) * 4
  local kind, due, body, record = ARGV[a + 1], tonumber(ARGV[a + 2]), ARGV[a + 3], known[i]
  if kind == 'd' then due = now + due end
  if record then
    local letter, was, rest = string.match(record, '^(%a)\t%d+\t(%d+)\t(.*)$')
    local same = rest == body
    if letter ~= 'w' then same = string.match(rest, '(%x+)$') == redis.sha1hex(body) end
    if not same or (kind == 'a' and tonumber(was) ~= due) then return {-1, i} end
    out[#out + 1] = was
  else
    out[#out + 1] = int(due)
    fresh[#fresh + 1] = ids[i]
    fresh[#fresh + 1] = table.concat({'w', int(now), int(due), body}, '\t')
    scores[#scores + 1] = int(due)
    scores[#scores + 1] = ids[i]
  end
end
local live = redis.call('HLEN', KEYS[2]) - redis.call('LLEN', KEYS[3])
if #fresh > 0 and live + #fresh / 2 > tonumber(ARGV[1]) then return {-2} end

in_chunks('HSET', KEYS[2], fresh)
in_chunks('ZADD', KEYS[1], scores)
return out
