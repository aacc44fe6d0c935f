-- wrk: walks a file of ready HTTP requests, all of one length.
--
-- Arguments: file, length of a request in bytes, number of the first, how many, "again" (optional).
-- Prints one line "bench {…}" with what wrk counted, times in microseconds.
--
-- Each thread takes its own share of the requests, so that none is sent twice. With "again" it
-- starts over at the end of its share. Otherwise running out is reported, and the caller discards
-- the run.

local threads = {}

function setup(thread)
  thread:set("part", #threads)
  table.insert(threads, thread)
  for _, t in ipairs(threads) do t:set("parts", #threads) end
end

function init(args)
  length, again, exhausted = tonumber(args[2]), args[5] == "again", 0
  local share = math.floor(tonumber(args[4]) / parts)
  start, left, whole = (tonumber(args[3]) + part * share) * length, share, share
  file = assert(io.open(args[1], "rb"))
  file:seek("set", start)
end

function request()
  if left == 0 then
    if not again then exhausted = 1 end
    file:seek("set", start)
    left = whole
  end
  left = left - 1
  return file:read(length)
end

function done(summary, latency)
  local ran_out = 0
  for _, t in ipairs(threads) do ran_out = ran_out + t:get("exhausted") end
  local e = summary.errors
  io.write(string.format(
    'bench {"requests":%d,"duration":%d,"refused":%d,"broken":%d,"ran_out":%d,' ..
      '"p50":%d,"p99":%d,"max":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout, ran_out,
    latency:percentile(50), latency:percentile(99), latency.max))
end
