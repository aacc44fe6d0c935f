-- promote: moves the tickets whose delay is over from retry to suspect, where they are claimed one at a time.
--
-- KEYS  1 retry  2 suspect
-- ARGV  1 most tickets
--
-- Returns how many were moved.

local ids = redis.call('ZRANGE', KEYS[1], '-inf', int(now_ms()), 'BYSCORE', 'LIMIT', 0, ARGV[1])
in_chunks('ZREM', KEYS[1], ids)
in_chunks('LPUSH', KEYS[2], ids)
return #ids
