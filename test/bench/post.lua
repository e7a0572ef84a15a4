-- wrk: one request from a file, sent again and again with a fresh event id in place of @@ID@@.
-- Signature and body stay as they are. Usage: wrk ... -s post.lua URL -- FILE PREFIX
-- At the end one line of JSON; latencies in microseconds.
local head, tail, prefix
local n = 0
local format = string.format

function init(args)
  local f = assert(io.open(args[1], "rb"))
  local text = f:read("*a")
  f:close()
  local from, to = text:find("@@ID@@", 1, true)
  head, tail, prefix = text:sub(1, from - 1), text:sub(to + 1), args[2]
end

function request()
  n = n + 1
  return head .. prefix .. format("%09d", n) .. tail
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(format('JSON {"requests":%d,"usec":%d,"p50":%g,"p90":%g,"p99":%g,"p999":%g,"max":%g,' ..
    '"bad_status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9), latency.max,
    e.status, e.connect, e.read, e.write, e.timeout))
end
