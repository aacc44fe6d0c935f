-- adopt: gives one process the counts of those that are gone.
-- Fields are "n", owner, way and cause, or "alive" and owner, with the separator between.
--
-- KEYS  1 journal (hash)
-- ARGV  1 the owner that adopts  2 the time  3 the earliest sign of life that counts  4 separator
--
-- Returns {way, cause, count, way, cause, count, ...} that were adopted

local own, now, since, sep = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local fields, alive, adopted = redis.call('HGETALL', KEYS[1]), {}, {}
local part = '([^' .. sep .. ']*)'
local pattern = '^n' .. sep .. part .. sep .. part .. sep .. '(.*)$'
for i = 1, #fields, 2 do
    local owner = string.match(fields[i], '^alive' .. sep .. '(.*)$')
    if owner and owner ~= own then
        if (tonumber(fields[i + 1]) or 0) >= since then
            alive[owner] = true
        else
            redis.call('HDEL', KEYS[1], fields[i])
        end
    end
end
for i = 1, #fields, 2 do
    local owner, way, cause = string.match(fields[i], pattern)
    if owner and owner ~= own and not alive[owner] then
        redis.call('HDEL', KEYS[1], fields[i])
        local mine = 'n' .. sep .. own .. sep .. way .. sep .. cause
        redis.call('HINCRBY', KEYS[1], mine, fields[i + 1])
        adopted[#adopted + 1] = way
        adopted[#adopted + 1] = cause
        adopted[#adopted + 1] = fields[i + 1]
    end
end
if #adopted > 0 then
    redis.call('HSET', KEYS[1], 'alive' .. sep .. own, now)
end
return adopted
