-- One partition's batch, atomically: check the fence and what came before, then write offsets, states and outbox.
-- KEYS: 1 meta, 2 outbox, 3 activity, 4 touched, 5.. one patient hash each, last those to be taken out first (all share
--   the partition's hash tag)
-- ARGV: fence token, number of this write, its time in ms; then counted lists, each preceded by its number of items:
--   offsets (field, offset)*; counters (field, increment)*; outbox (field, bytes)*; taken out (member, "")*;
--   then per other patient key: member, newest recorded ms, and a counted list of (field, value)*
-- Returns 1 written (or already written: a repeat after a lost reply), 0 another owner raised the fence,
-- -1 the write before this one is not there: Redis lost it.
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
  return 0
end
local number = tonumber(ARGV[2])
local stored = tonumber(redis.call('HGET', KEYS[1], 'writes') or 0)
if stored == number then return 1 end
if stored ~= number - 1 then return -1 end
redis.call('HSET', KEYS[1], 'writes', number)
local at = 4
local function pairs_of(act)
  local n = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, n do
    act(ARGV[at], ARGV[at + 1])
    at = at + 2
  end
end
pairs_of(function(field, offset) redis.call('HSET', KEYS[1], field, offset) end)
pairs_of(function(field, by) redis.call('HINCRBY', KEYS[1], field, by) end)
pairs_of(function(field, bytes) redis.call('HSET', KEYS[2], field, bytes) end)
local last = #KEYS - tonumber(ARGV[at])
for k = last + 1, #KEYS do redis.call('DEL', KEYS[k]) end
pairs_of(function(member) redis.call('ZREM', KEYS[3], member); redis.call('ZREM', KEYS[4], member) end)
for k = 5, last do
  redis.call('ZADD', KEYS[3], ARGV[at + 1], ARGV[at])
  redis.call('ZADD', KEYS[4], ARGV[3], ARGV[at])
  at = at + 2
  pairs_of(function(field, value) redis.call('HSET', KEYS[k], field, value) end)
end
return 1
