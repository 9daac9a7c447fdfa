-- wrk: asks for the paths of the file $BENCH_PATHS in turn; one line of numbers at the end.
local paths = {}
for line in io.lines(os.getenv("BENCH_PATHS")) do
  paths[#paths + 1] = wrk.format("GET", line)
end
local at = 0

function request()
  at = at % #paths + 1
  return paths[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("result %d %.1f %.4f %.4f %d\n", summary.requests,
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
