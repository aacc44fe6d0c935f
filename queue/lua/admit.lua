-- admit: takes a batch of requests into the line, first come first served.
--
-- KEYS  1 meta  2 stock  3 wait  4 orders  5 holders  6 cancels
-- ARGV  1 epoch the caller knows  2 tickets drained per second  3 wake channel  4 sale
--       5 seconds until the line is drained at all
--       6 highest revision of the line that the caller has seen
--       7 orders that one user may cancel (0: no bound)
--       then, for n requests: n ids, n users, n units, n fingerprints, n contacts
--       (email, phone, locale and the number of the instance, with tabs between)
--
-- Returns {head, answer, answer, ...}, one answer per request in their order.
--
-- head
--   "X"  the line is not ready, of another epoch, or older than the caller has seen:
--        nothing was done, no answers follow
--   "stock seq claimed ms work firm rev"  after this batch, with spaces between:
--        units left, sequence of the newest ticket, sequence up to which tickets were claimed,
--        admitted ms, tickets that workers have,
--        for how many ms from now the last "N", "F" or "S" may be repeated to others without
--        asking (0: it may not), revision of the line
--
-- answer
--   "A" .. slot       admitted, in the first slot when there is no number
--   "R" .. record     known: the same request came before, this is what it became
--   "M"               known, but with another payload or user
--   "N" .. starts_ms  the sale has not started (0: not opened yet)
--   "E"               the sale has ended or is closed
--   "P"               the sale is paused
--   "L" .. order      the user already holds its limit (the newest held, empty when none)
--   "C"               the user has cancelled as many orders of this sale as one may
--   "F"               the line is at its cap (see live_tickets)
--   "S"               not enough units left, or none that may be sold yet
--
-- Those admitted have the last sequences, in their order. Position is sequence − claimed, at least
-- 1. The expected wait is ARGV 5 + (position + work) / drained per second, rounded up.
--
-- The order of the checks is part of the contract: known, window, limit (then cancels), cap, stock.
--
-- A gateway may repeat "S" and "F" for a while (firm). Nobody must read one who has won meanwhile.
-- So nobody is admitted before every such while is over: meta's sold_out and full say when the last
-- of each was answered.

-- ms for which a refusal may be repeated: a full line has room again with the next claim
local repeated, full_repeated = 100, 10
-- ms after which its time is written again: a rush must not make every call a write
local renewed, full_renewed = 10, 2
-- ms for what the clocks round off
local slack, full_slack = 10, 3
local hold, full_hold = repeated + renewed + slack, full_repeated + full_renewed + full_slack

local call, format = redis.call, string.format
local meta = call('HMGET', KEYS[1], 'epoch', 'gate', 'state', 'starts', 'ends', 'cap', 'limit', 'seq',
  'claimed', 'served', 'sold_out', 'run', 'rev', 'ended', 'cancelled', 'full')
if meta[1] ~= ARGV[1] or not ready(meta[1], meta[2], meta[12]) then return {'X'} end
local rev = tonumber(meta[13])
if rev < tonumber(ARGV[6]) then return {'X'} end
local now = now_ms()
local state, starts, ends = meta[3], tonumber(meta[4]), tonumber(meta[5])
local cap, limit = tonumber(meta[6]), tonumber(meta[7])
local seq, claimed = tonumber(meta[8]), tonumber(meta[9])
local rate, stopped = tonumber(ARGV[2]), tonumber(ARGV[5])
local stamp = format('%d', now)
-- Who is admitted waits for those that workers have, too.
local in_work = math.max(claimed - tonumber(meta[10] or '0'), 0)
local sold_out = tonumber(meta[11] or '0')
local full = tonumber(meta[16] or '0')
-- The clock was set back: nobody must wait for it to come round.
if sold_out > now then sold_out = 0 end
if full > now then full = 0 end
local middle = '\t' .. stamp .. '\t'

local refusal
if state == 'closed' or now >= ends then refusal = 'E'
elseif state == 'draft' then refusal = 'N0'
elseif now < starts then refusal = 'N' .. meta[4]
elseif state == 'paused' then refusal = 'P' end

local n = (#ARGV - 7) / 5
local users, amounts, prints, contacts = 7 + n, 7 + 2 * n, 7 + 3 * n, 7 + 4 * n
local known = call('HMGET', KEYS[4], unpack(ARGV, 8, users))
local held = call('HMGET', KEYS[5], unpack(ARGV, users + 1, amounts))
-- Nobody pays for the count of cancels before somebody has cancelled.
local most = tonumber(ARGV[7])
local counted = meta[15] and most > 0
local cancels = counted and call('HMGET', KEYS[6], unpack(ARGV, users + 1, amounts)) or {}
local depth = call('LLEN', KEYS[3]) -- also sees, before anything is written, that it is a list
local load = live_tickets(seq, meta[10], meta[14])
local stock = tonumber(call('GET', KEYS[2]) or '0')
-- ms until what came back may be sold
local quiet = stock > 0 and math.max(sold_out + hold - now, 0) or 0
local none_left, no_room = false, false
-- ms until the room that came back may be taken
local calm = load < cap and math.max(full + full_hold - now, 0) or 0
local firm = 0
if starts > now then firm = math.min(repeated, starts - now - 1)
elseif calm > 0 then firm = math.max(calm - full_slack, 0)
elseif quiet > 0 then firm = math.max(quiet - slack, 0) end

-- fresh and mine hold what this very batch has decided, for requests that share an id or a user.
local fresh, mine = {}, {}
local out, push, records, holders, admitted, taken = {''}, {}, {}, {}, 0, 0
-- Neighbours mostly expect the same wait. To write a number is the dearest thing here, and joining
-- one the dearest way.
local eta, eta_text

for i = 1, n do
  local id, user, print = ARGV[7 + i], ARGV[users + i], ARGV[prints + i]
  local record = fresh[id] or known[i]
  if record then
    local owner, same = string.match(record, '^%a\t%d+\t%d+\t%d+\t([^\t]*)\t%d+\t([^\t]*)\t')
    -- An order that was lost and told by its id alone has no fingerprint.
    if owner == user and (same == print or same == '') then out[i + 1] = 'R' .. record
    else out[i + 1] = 'M' end
  elseif refusal then
    out[i + 1] = refusal
  else
    local amount, text = ARGV[amounts + i], mine[user] or held[i] or ''
    local units = tonumber(amount)
    local sum, slot, newest = held_by(text)
    if sum + units > limit then out[i + 1] = 'L' .. newest
    elseif cancels[i] and tonumber(cancels[i]) >= most then out[i + 1] = 'C'
    elseif load >= cap or calm > 0 then
      out[i + 1] = 'F'
      no_room = no_room or load >= cap
    elseif units > stock or quiet > 0 then
      out[i + 1] = 'S'
      none_left = none_left or stock <= 0
    else
      seq, load, admitted = seq + 1, load + 1, admitted + 1
      stock, taken = stock - units, taken + units
      local position = math.max(seq - claimed, 1)
      local slot_text = slot == 1 and '1' or format('%d', slot)
      local wait = stopped + math.ceil((position + in_work) / rate)
      if wait ~= eta then eta, eta_text = wait, format('\t%d\t\t\t', wait) end
      record = 'q\t' .. format('%d', seq) .. '\t' .. amount .. '\t' .. slot_text .. '\t' .. user ..
        middle .. print .. format('\t%d', position) .. eta_text .. ARGV[contacts + i]
      text = with_order(text, id, slot_text, amount)
      fresh[id], mine[user] = record, text
      push[admitted] = id
      records[2 * admitted - 1], records[2 * admitted] = id, record
      -- Of a user's two the later counts.
      holders[2 * admitted - 1], holders[2 * admitted] = user, text
      out[i + 1] = slot == 1 and 'A' or 'A' .. slot_text
    end
  end
end

if admitted > 0 then
  call('DECRBY', KEYS[2], taken)
  call('HSET', KEYS[4], unpack(records))
  call('HSET', KEYS[5], unpack(holders))
  call('LPUSH', KEYS[3], unpack(push))
  rev = rev + 1
  call('HSET', KEYS[1], 'seq', format('%d', seq), 'rev', format('%d', rev))
  -- Only the first ticket of an empty line wakes a worker: a busy one looks again by itself.
  if depth == 0 then call('PUBLISH', ARGV[3], ARGV[4]) end
end
-- Once one has found no room, nobody after it has: its refusal is the last.
if no_room then
  firm = full_repeated
  if now - full >= full_renewed then call('HSET', KEYS[1], 'full', stamp) end
elseif none_left then
  firm = repeated
  if now - sold_out >= renewed then call('HSET', KEYS[1], 'sold_out', stamp) end
end
out[1] = format('%d %d %d ', stock, seq, claimed) .. stamp ..
  format(' %d %d %d', in_work, firm, rev)
return out
