-- record: what the scripts of a subscription share. Each script gets in front the functions that it
-- uses (see link): a blank line ends one.
--
-- A record is a letter and fields joined by tabs:
--   w added_ms first_due_ms body
--     not finished: pending, firing, retrying or dead
--   d|x|p added_ms first_due_ms attempts ended_ms body_sha1
--     finished: delivered, cancelled, dropped
-- An about is event and sale, joined by a tab, of an unfinished message that was added with one of
-- them.
-- A try is attempts, lease token ("" but while it is firing) and last error, joined by tabs.

-- outdated returns Redis' version of a topic, "" for none, if the caller must read the topic again. A
-- newer version of the caller's is written.
local function outdated(key, version)
  local newest = redis.call('GET', key)
  if newest == version then return nil end
  if not newest or tonumber(newest) > tonumber(version) then return newest or '' end
  redis.call('SET', key, version)
  return nil
end

-- read_try returns the attempts, token and error of a try; no text means no attempt.
local function read_try(text)
  local attempts, token, err = string.match(text or '', '^(%d+)\t([^\t]*)\t(.*)$')
  return tonumber(attempts or '0'), token or '', err or ''
end

-- in_chunks calls a command with at most 1,000 arguments at a time, as Lua's stack is small. 1,000 is
-- even, so pairs stay together.
local function in_chunks(command, key, list)
  for i = 1, #list, 1000 do
    redis.call(command, key, unpack(list, i, math.min(i + 999, #list)))
  end
end

-- finish ends messages. Each record stays, without its body, until more than bound newer ones are
-- finished. In list are id, letter, attempts and record of each message.
local function finish(messages, tries, done, about, list, now, bound)
  if #list == 0 then return end
  local ids, records = {}, {}
  for i = 1, #list, 4 do
    local added, due, body = string.match(list[i + 3] or '', '^w\t(%d+)\t(%d+)\t(.*)$')
    -- An overwritten record ends, too: the other messages of the call must not fail with it.
    if not added then added, due, body = '0', '0', '' end
    ids[#ids + 1] = list[i]
    records[#records + 1] = list[i]
    local fields = {list[i + 1], added, due, int(list[i + 2]), int(now), redis.sha1hex(body)}
    records[#records + 1] = table.concat(fields, '\t')
  end
  in_chunks('HSET', messages, records)
  in_chunks('HDEL', tries, ids)
  in_chunks('HDEL', about, ids)
  in_chunks('LPUSH', done, ids)
  local over = redis.call('LLEN', done) - bound
  while over > 0 do
    local old = redis.call('RPOP', done, math.min(over, 1000))
    redis.call('HDEL', messages, unpack(old))
    redis.call('HDEL', about, unpack(old)) -- where an older version finished them
    over = over - #old
  end
end
