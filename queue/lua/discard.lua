-- discard: deletes a line that nobody needs any more.
-- Its sale has ended and every order of it has a row. The checks and the deletion are one step:
-- who extends the sale meanwhile, or is admitted, keeps the line.
--
-- KEYS  1 meta  2 wait  3 isolated  4 leased  5 retry  6 dead  7 due
--       then all other keys of the line
-- ARGV  1 epoch  2 version  3 newest sequence, each as the caller has seen it
--       4 "1": dead letters and unpaid orders do not keep it
--
-- Returns 1 deleted
--         0 it has changed since, is needed, or is not ready: nothing was done

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'gate', 'run', 'version', 'seq')
if meta[1] ~= ARGV[1] or not ready(meta[1], meta[2], meta[3]) then return 0 end
if meta[4] ~= ARGV[2] or (meta[5] or '0') ~= ARGV[3] then return 0 end
local tickets = redis.call('LLEN', KEYS[2]) + redis.call('LLEN', KEYS[3]) +
  redis.call('HLEN', KEYS[4]) + redis.call('ZCARD', KEYS[5])
if tickets > 0 then return 0 end
if ARGV[4] ~= '1' and redis.call('LLEN', KEYS[6]) + redis.call('ZCARD', KEYS[7]) > 0 then
  return 0
end
redis.call('UNLINK', unpack(KEYS))
return 1
