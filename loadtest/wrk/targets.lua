-- targets: wrk sends each line of a list once, for the highest rates of one machine.
--
--   sluice loadtest targets --sale S --users 1000000 --format wrk > targets.tsv
--   TARGETS=targets.tsv THREADS=2 \
--     wrk -t2 -c200 -d30s -s loadtest/wrk/targets.lua http://127.0.0.1:8080
--
-- A line is path, token, key and body with tabs between. Of t threads, thread n takes the lines n,
-- n + t, n + 2t, … and reads them as it goes. wrk does not tell a thread how many there are:
-- THREADS repeats -t. A thread whose list ends stops.
-- wrk is a closed loop: it waits for answers, so its latencies flatter a slow system. Read its
-- requests a second, and the answers by status below.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set('number', #threads)
end

-- Globals, because done() can read nothing else of a thread.
function init()
  list = assert(io.open(os.getenv('TARGETS') or 'targets.tsv'))
  counts, sent, ended, step = {}, 0, false, number
end

local total = tonumber(os.getenv('THREADS') or '2')

local function next_line()
  local line
  for _ = 1, step do line = list:read('*l') end
  step = total
  return line
end

function request()
  local line = next_line()
  if not line then
    ended = true
    wrk.thread:stop()
    return wrk.format('GET', '/v1/sales') -- wrk wants one more; it is not counted
  end
  local path, token, key, body = string.match(line, '^([^\t]+)\t([^\t]+)\t([^\t]+)\t(.*)$')
  sent = sent + 1
  return wrk.format('POST', path, {
    ['Authorization'] = 'Bearer ' .. token,
    ['Idempotency-Key'] = '"' .. key .. '"',
    ['Content-Type'] = 'application/json',
  }, body)
end

function response(status)
  if not ended then counts[status] = (counts[status] or 0) + 1 end
end

function done(summary, latency)
  local all, users, short = {}, 0, 0
  for _, thread in ipairs(threads) do
    users = users + thread:get('sent')
    if thread:get('ended') then short = short + 1 end
    for status, n in pairs(thread:get('counts')) do all[status] = (all[status] or 0) + n end
  end
  local seconds = summary.duration / 1e6
  io.write(string.format('orders sent  %d, %.0f a second\n', users, users / seconds))
  for status, n in pairs(all) do io.write(string.format('  answered %d  %d\n', status, n)) end
  io.write(string.format('latency ms   p50 %.1f  p99 %.1f  max %.1f\n', latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3))
  if short > 0 then
    io.write(string.format('%d of %d threads came to the end of the list: make it longer\n', short,
      #threads))
  end
end
