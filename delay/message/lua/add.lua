-- add: takes messages into the subscriptions of a topic, all or none.
-- One that a subscription knows already with the same body is left there as it is, whatever became of
-- it. A full subscription misses what it has no room for, and the others do not.
--
-- KEYS  1 gone  2 version
--       then per subscription: due, messages, done, missed, about
--       last: added
-- ARGV  1 version of the topic that the caller knows  2 most unfinished messages of a subscription
--       3 how many messages
--       then per message: id (none twice), kind, ms, body, about ("" for none)
--       kind  d due so many ms from now
--             a due at that time; a known message must have been added for the same
--       then per subscription: "" it takes every message, else a letter for each: y it does, n not
--       then the channel that tells what is due soon, how soon in ms, the topic
--       last: how many messages the topic is known to have taken
--
-- Returns {0, then per message when it was due as first asked, ms, last how many
--          the topic has taken by now}
--         {-1, n, ...}    these are known with another body or time
--         {-2}            a message is for full subscriptions only
--         {-3}            the topic was deleted
--         {-4, version}   the caller's version is not the newest ("" when Redis has none)
--         {-5, n}         Redis knows of n messages that the topic has taken, fewer than it had

if redis.call('EXISTS', KEYS[1]) == 1 then return {-3} end
local newer = outdated(KEYS[2], ARGV[1])
if newer then return {-4, newer} end
local added = tonumber(redis.call('GET', KEYS[#KEYS]) or '0')
if added < tonumber(ARGV[#ARGV]) then return {-5, int(added)} end
local now, most, n, all, ids = now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3]), {}, {}
local out, conflicts, known, placed, fresh = {0}, {-1}, {}, {}, {}
for i = 1, n do
  local a = 5 * i - 1
  all[i], ids[i] = i, ARGV[a]
  out[i + 1] = int(ARGV[a + 1] == 'd' and now + tonumber(ARGV[a + 2]) or tonumber(ARGV[a + 2]))
end
local subscriptions = (#KEYS - 3) / 5
for s = 1, subscriptions do
  local takes, its, asked, new = ARGV[3 + 5 * n + s], all, ids, {}
  if takes ~= '' then
    its, asked = {}, {}
    for i = 1, n do
      if string.sub(takes, i, i) == 'y' then its[#its + 1], asked[#asked + 1] = i, ids[i] end
    end
  end
  local records = redis.call('HMGET', KEYS[5 * s - 1], unpack(asked))
  for j, i in ipairs(its) do
    local record, a = records[j], 5 * i - 1
    if record then
      local letter, was, rest = string.match(record, '^(%a)\t%d+\t(%d+)\t(.*)$')
      local same = rest == ARGV[a + 3]
      if letter and letter ~= 'w' then
        same = string.match(rest, '(%x+)$') == redis.sha1hex(ARGV[a + 3])
      end
      if not same or (ARGV[a + 1] == 'a' and tonumber(was) ~= tonumber(ARGV[a + 2])) then
        if conflicts[#conflicts] ~= i then conflicts[#conflicts + 1] = i end
      elseif not known[i] then
        known[i], out[i + 1] = true, was
      end
    else
      new[#new + 1] = i
    end
  end
  fresh[s] = new
end
if #conflicts > 1 then return conflicts end

local room, missing = {}, {}
for s = 1, subscriptions do
  room[s] = math.max(most - redis.call('HLEN', KEYS[5 * s - 1]) + redis.call('LLEN', KEYS[5 * s]), 0)
  for j, i in ipairs(fresh[s]) do
    if j <= room[s] then placed[i] = true else missing[#missing + 1] = i end
  end
end
for _, i in ipairs(missing) do
  if not placed[i] and not known[i] then return {-2} end
end

local first, soon = nil, now + tonumber(ARGV[#ARGV - 2])
for s = 1, subscriptions do
  local records, scores, about, none = {}, {}, {}, {}
  for j = 1, math.min(#fresh[s], room[s]) do
    local i = fresh[s][j]
    local due = out[i + 1]
    records[#records + 1] = ids[i]
    records[#records + 1] = table.concat({'w', int(now), due, ARGV[5 * i + 2]}, '\t')
    scores[#scores + 1] = due
    scores[#scores + 1] = ids[i]
    if ARGV[5 * i + 3] == '' then
      none[#none + 1] = ids[i]
    else
      about[#about + 1] = ids[i]
      about[#about + 1] = ARGV[5 * i + 3]
    end
    first = math.min(first or soon, tonumber(due))
  end
  in_chunks('HSET', KEYS[5 * s - 1], records)
  in_chunks('ZADD', KEYS[5 * s - 2], scores)
  in_chunks('HSET', KEYS[5 * s + 2], about)
  -- An older version forgets ids without their entries here.
  if redis.call('EXISTS', KEYS[5 * s + 2]) == 1 then in_chunks('HDEL', KEYS[5 * s + 2], none) end
  if #fresh[s] > room[s] then redis.call('INCRBY', KEYS[5 * s + 1], #fresh[s] - room[s]) end
end
local taken = 0
for _ in pairs(placed) do taken = taken + 1 end
if taken > 0 then added = redis.call('INCRBY', KEYS[#KEYS], taken) end
out[n + 2] = int(added)
if first and first < soon then redis.call('PUBLISH', ARGV[#ARGV - 3], ARGV[#ARGV - 1]) end
return out
