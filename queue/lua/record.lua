-- record: what the scripts of a line share. Each script gets in front the functions that it uses
-- (see link): a blank line ends one.
--
-- A record is one order: 15 fields joined by tabs, none of which may hold a control character. Their
-- names, places and kinds are the schema in record.go. A 16th field, r, says that a payment of it
-- must go back, and stays through every change of state.
-- A holding is what one user holds: order:slot:units, joined by commas.

local own_id

-- server_id names the history of data that this server writes. Every start and every promotion begins
-- a new one, which no data set brings along. The in-process Redis tells none, and does not outlive
-- its data.
local function server_id()
  if not own_id then
    local text = redis.pcall('INFO', 'replication')
    if type(text) == 'string' then
      local at = string.find(text, 'master_replid:', 1, true)
      own_id = string.sub(text, at + 14, at + 53)
    elseif string.find(text.err, 'is not supported', 1, true) then own_id = 'in-process'
    else error(text) end
  end
  return own_id
end

-- ready reports that a line may be changed: it exists and nobody rebuilds it. It was also compared
-- with the ledger on this very server, since that started or was promoted.
local function ready(epoch, gate, run) return epoch and not gate and run == server_id() end

-- moved counts a change of the line and returns the new revision. Callers hand it in again: older
-- data have a lower one.
local function moved(meta) return redis.call('HINCRBY', meta, 'rev', 1) end

-- live_tickets counts those that the cap bounds: waiting, isolated, leased or in retry. It leaves out
-- those that are no tickets any more, and are only there until a worker takes them off.
local function live_tickets(seq, served, ended)
  return tonumber(seq) - tonumber(served or '0') - tonumber(ended or '0')
end

-- ended_early reports that a ticket of the line was an order, or ended, before its worker said so.
-- Whatever makes a record so adds to meta's ended.
local function ended_early(record) return record and string.find(record, '^[cpxfe]\t') end

-- let_go returns the record of a cancelled ticket that holds its units as one that does not. It
-- returns nil for any other.
local function let_go(record)
  local head, rest = string.match(record or '',
    '^(x\t%d+\t%d+\t%d+\t[^\t]*\t%d+\t[^\t]*\t%d+\t%d+\t%d+\t)held(\t.*)$')
  return head and head .. rest
end

-- lease_ends returns when a lease of so many ms ends, and remembers the longest. What ends later than
-- that was set by another clock.
local function lease_ends(meta, longest, ms)
  if tonumber(ms) > tonumber(longest or '0') then redis.call('HSET', meta, 'lease', ms) end
  return int(now_ms() + tonumber(ms))
end

-- with_worker reports that a worker has a ticket.
local function with_worker(leased, id)
  local batches = redis.call('HGETALL', leased)
  for i = 2, #batches, 2 do
    if string.find(',' .. batches[i] .. ',', ',' .. id .. ',', 1, true) then return true end
  end
  return false
end

-- count_cancel counts an order that its owner has cancelled.
local function count_cancel(meta, cancels, user)
  redis.call('HINCRBY', meta, 'cancelled', 1)
  redis.call('HINCRBY', cancels, user, 1)
end

-- refund_mark returns the end of a record that says that a payment must go back, or ''. It is the
-- 16th field only: what stands last in a shorter record is no mark.
local function refund_mark(record)
  if string.byte(record, -1) ~= 114 or string.byte(record, -2) ~= 9 then return '' end
  local _, tabs = string.gsub(record, '\t', '')
  return tabs == 15 and '\tr' or ''
end

-- ended returns the record in a new state, nil when it cannot be read. Ask before the first write,
-- since an error undoes none. Contact and locale go: whoever still needs them reads the database.
local function ended(record, state, at, reason, pay, locale)
  local head = string.match(record, '^%a(\t%d+\t%d+\t%d+\t[^\t]*\t%d+\t[^\t]*\t%d+\t%d+)\t')
  return head and state .. head .. '\t' .. int(at) .. '\t' .. reason .. '\t\t\t' .. (locale or '') ..
    '\t' .. (pay or '') .. refund_mark(record)
end

-- admitted_by returns the number of the instance that admitted a ticket in the line, or ''.
local function admitted_by(record)
  return string.match(record, '^q\t%d+\t%d+\t%d+\t[^\t]*\t%d+\t[^\t]*\t%d+\t%d+\t' ..
    '[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t(%d*)') or ''
end

local function units_and_user(record)
  local units, user = string.match(record, '^%a\t%d+\t(%d+)\t%d+\t([^\t]*)\t')
  return tonumber(units), user
end

-- restock adds units to the stock. It publishes the sale when there was none and now there is:
-- gateways refuse by themselves while a sale is sold out. news_of is {stock channel, sale}.
local function restock(stock, units, news_of)
  local now = redis.call('INCRBY', stock, units)
  if now > 0 and now - units <= 0 then redis.call('PUBLISH', news_of[1], news_of[2]) end
end

-- give_back returns the units of an order to the stock and frees its user's slot.
local function give_back(stock, holders, id, record, news_of)
  local units, user = units_and_user(record)
  local rest = {}
  for one in string.gmatch(redis.call('HGET', holders, user) or '', '[^,]+') do
    if string.sub(one, 1, #id + 1) ~= id .. ':' then rest[#rest + 1] = one end
  end
  restock(stock, units, news_of)
  if #rest == 0 then redis.call('HDEL', holders, user)
  else redis.call('HSET', holders, user, table.concat(rest, ',')) end
end

-- in_chunks calls a command with many arguments in pieces that Lua's stack can hold. Their size is
-- even, for pairs.
local function in_chunks(command, key, list)
  for i = 1, #list, 1000 do
    redis.call(command, key, unpack(list, i, math.min(i + 999, #list)))
  end
end

-- records_of returns the records of ids[from] to ids[to], false for what has none. It reads them in
-- pieces that Lua's stack can hold.
local function records_of(orders, ids, from, to)
  if to - from < 1000 then return redis.call('HMGET', orders, unpack(ids, from, to)) end
  local all = {}
  for at = from, to, 1000 do
    local some = redis.call('HMGET', orders, unpack(ids, at, math.min(at + 999, to)))
    for _, record in ipairs(some) do all[#all + 1] = record end
  end
  return all
end

local function reversed(list)
  local back = {}
  for i = #list, 1, -1 do back[#back + 1] = list[i] end
  return back
end

-- keep_done remembers finished orders, and forgets the records of the oldest beyond the bound. It
-- counts those in meta's forgotten: once there are some, a repeated request may be unknown here and
-- known to the database.
local function keep_done(meta, done, orders, ids, bound)
  if #ids == 0 then return end
  in_chunks('LPUSH', done, ids)
  local over = redis.call('LLEN', done) - bound
  if over > 0 then redis.call('HINCRBY', meta, 'forgotten', int(over)) end
  while over > 0 do
    local old = redis.call('RPOP', done, math.min(over, 1000))
    redis.call('HDEL', orders, unpack(old))
    over = over - #old
  end
end

-- recent_kept is how many of those claimed last are named; users_since reads no more.
local recent_kept = 5000

-- name_recent adds to the list of who was claimed lately: "sequence, tab, user" each, the newest
-- last.
local function name_recent(recent, names)
  in_chunks('LPUSH', recent, names)
  redis.call('LTRIM', recent, 0, recent_kept - 1)
end

local function split(text)
  local list = {}
  for one in string.gmatch(text, '[^,]+') do list[#list + 1] = one end
  return list
end

-- held_by returns the units a user holds, its lowest free slot and its newest order ("" when none).
local function held_by(text)
  if text == '' then return 0, 1, '' end
  local sum, used, newest = 0, {}, ''
  for id, slot, units in string.gmatch(text, '([^:,]+):(%d+):(%d+)') do
    sum = sum + tonumber(units)
    used[tonumber(slot)] = true
    newest = id
  end
  local slot = 1
  while used[slot] do slot = slot + 1 end
  return sum, slot, newest
end

-- with_order returns a holding with one order more.
local function with_order(text, id, slot, units)
  local one = id .. ':' .. slot .. ':' .. units
  if text == '' then return one end
  return text .. ',' .. one
end
