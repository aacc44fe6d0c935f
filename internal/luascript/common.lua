-- common: what scripts of every library may use. Each script gets in front the functions that it
-- uses (see link): a blank line ends one.

local read_ms

-- now_ms returns Redis' clock in ms, the same to all parts of one call.
local function now_ms()
  if not read_ms then
    local t = redis.call('TIME')
    read_ms = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  return read_ms
end

-- int returns a whole number as text, without an exponent.
local function int(x) return string.format('%d', x) end
