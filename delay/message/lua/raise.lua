-- raise: makes a version of a topic known to all that add and claim.
--
-- KEYS  1 version
-- ARGV  1 the version
--       2 "": raise to it; else the one that is known and stands in no database: replace it
--
-- Returns {1}  done
--         {0}  another is known by now

local newest = redis.call('GET', KEYS[1])
if ARGV[2] ~= '' and newest ~= ARGV[2] then return {0} end
if ARGV[2] ~= '' or not newest or tonumber(newest) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return {1}
