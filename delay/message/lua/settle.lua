-- settle: stores the outcomes of calls, each only while the message's lease stands.
-- A late dispatcher finds another token, or none, and changes nothing.
--
-- KEYS  1 due  2 firing  3 messages  4 tries  5 dead  6 done  7 about
-- ARGV  1 most finished records kept
--       then per message: id, token, op, value, error
--
--       op  becomes                              value
--       d   delivered                            unused
--       r   tried again                          wait, ms
--       x   dead                                 unused
--       p   put off, the attempt uncounted       wait, ms
--       b   as it was, the attempt uncounted     when it was due, ms
--
-- Returns a list with 1 (stored) or 0 (fenced) per message

local now, ids = now_ms(), {}
for a = 2, #ARGV, 5 do ids[#ids + 1] = ARGV[a] end
local tried = redis.call('HMGET', KEYS[4], unpack(ids))
local records = redis.call('HMGET', KEYS[3], unpack(ids))
local out, left, due, dead, tries, finished, untried = {}, {}, {}, {}, {}, {}, {}
for i, id in ipairs(ids) do
  local a = 2 + (i - 1) * 5
  local token, op, value, err = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
  local attempts, holds, before = read_try(tried[i])
  out[i] = (holds ~= '' and holds == token) and 1 or 0
  if out[i] == 1 then
    left[#left + 1] = id
    if op == 'd' then
      for _, part in ipairs({id, 'd', attempts, records[i]}) do finished[#finished + 1] = part end
    elseif op == 'x' then
      dead[#dead + 1] = int(now)
      dead[#dead + 1] = id
    elseif op == 'r' then
      due[#due + 1] = int(now + tonumber(value))
      due[#due + 1] = id
    elseif op == 'p' then
      due[#due + 1] = int(now + tonumber(value))
      due[#due + 1] = id
      attempts = attempts - 1
    else
      due[#due + 1] = value
      due[#due + 1] = id
      attempts, err = attempts - 1, before
    end
    if op ~= 'd' and attempts > 0 then
      tries[#tries + 1] = id
      tries[#tries + 1] = int(attempts) .. '\t\t' .. err
    elseif op ~= 'd' then
      untried[#untried + 1] = id
    end
  end
end
in_chunks('ZREM', KEYS[2], left)
in_chunks('ZADD', KEYS[1], due)
in_chunks('ZADD', KEYS[5], dead)
in_chunks('HSET', KEYS[4], tries)
in_chunks('HDEL', KEYS[4], untried)
finish(KEYS[3], KEYS[4], KEYS[6], KEYS[7], finished, now, tonumber(ARGV[1]))
return out
