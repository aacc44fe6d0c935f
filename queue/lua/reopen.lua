-- reopen: ends the rebuilding of a line.
-- Its numbers were computed from the ledger and the surviving tickets.
--
-- KEYS  1 meta  2 stock  3 wait  4 orders  5 released  6 isolated
-- ARGV  1 epoch  2 version  3 state  4 starts ms  5 ends ms  6 cap  7 limit  8 total units  9 stock
--       10 least sequence  11 newest change of the ledger  12 stock channel  13 sale
--       14 first revision of this epoch
--       15 tickets that are orders, or have ended, and only wait for a worker to take them off
--       16 "1": the ledger has more ended orders than the line got
--
-- Returns 1 open
--         0 somebody else rebuilds this line now, or the rebuild began on another server

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'seq')
if meta[1] ~= ARGV[1] or meta[2] ~= server_id() then return 0 end
local seq = math.max(tonumber(meta[3] or '0'), tonumber(ARGV[10]))
-- Everything older than the head of the line counts as claimed: places never go up. The head is the
-- first that can be read.
local claimed = seq
for _, id in ipairs(reversed(redis.call('LRANGE', KEYS[3], -100, -1))) do
  local first = string.match(redis.call('HGET', KEYS[4], id) or '', '^%a\t(%d+)\t')
  if first then
    claimed = tonumber(first) - 1
    break
  end
end
redis.call('SET', KEYS[2], '0')
restock(KEYS[2], tonumber(ARGV[9]), {ARGV[12], ARGV[13]})
redis.call('DEL', KEYS[5])
local served = int(seq - redis.call('LLEN', KEYS[3]) - redis.call('LLEN', KEYS[6]))
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'state', ARGV[3], 'starts', ARGV[4],
  'ends', ARGV[5], 'cap', ARGV[6], 'limit', ARGV[7], 'total', ARGV[8], 'seq', int(seq),
  'claimed', int(claimed), 'served', served, 'released', '0', 'base', int(seq), 'marks', '0',
  'ended', ARGV[15], 'ledger', ARGV[11], 'rev', ARGV[14], 'run', server_id())
if ARGV[16] == '1' then redis.call('HINCRBY', KEYS[1], 'forgotten', 1) end
redis.call('HDEL', KEYS[1], 'gate')
return 1
