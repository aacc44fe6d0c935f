-- head: tells how long the first message of a topic still waits, by Redis' clock. Read only.
--
-- KEYS  1 due
-- ARGV  none
--
-- Returns {}   none waits
--         {ms} until the first is due; 0 or less: it is

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if not first[2] then return {} end
return {int(tonumber(first[2]) - now_ms())}
