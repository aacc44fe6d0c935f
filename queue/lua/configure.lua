-- configure: brings a sale's settings into its line.
-- Versions make it safe to repeat and to race: an older one changes nothing. The total is absolute.
-- The stock moves by its difference, so tickets in flight stay counted.
--
-- KEYS  1 meta  2 stock
-- ARGV  1 epoch  2 version  3 state  4 starts ms  5 ends ms  6 cap  7 limit  8 total units
--       9 stock channel  10 sale
--       11 newest change of the ledger when these were read, 0 when it is not known
--
-- Returns {1, revision of the line}  changed
--         {0}   nothing newer
--         {-1}  the line is of another epoch or not ready

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'version', 'total', 'run', 'ledger')
if meta[1] ~= ARGV[1] or not ready(meta[1], meta[2], meta[5]) then return {-1} end
if tonumber(ARGV[2]) <= tonumber(meta[3]) then return {0} end
local difference = tonumber(ARGV[8]) - tonumber(meta[4])
if difference ~= 0 then restock(KEYS[2], difference, {ARGV[9], ARGV[10]}) end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'state', ARGV[3], 'starts', ARGV[4],
  'ends', ARGV[5], 'cap', ARGV[6], 'limit', ARGV[7], 'total', ARGV[8])
if tonumber(ARGV[11]) > tonumber(meta[6] or '0') then
  redis.call('HSET', KEYS[1], 'ledger', ARGV[11])
end
return {1, moved(KEYS[1])}
