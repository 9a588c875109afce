-- One partition's batch, atomically: check the fence and what came before, then write offsets, states and outbox.
-- KEYS: 1 meta, 2 outbox, 3 activity, 4.. one patient hash each (all share the partition's hash tag)
-- ARGV: fence token; then counted lists, each preceded by its number of items:
--   offsets (field, offset before or '', offset after)*; counters (field, increment)*; outbox (field, bytes)*;
--   then per patient key: member, newest recorded ms, and a counted list of (field, value)*
-- Returns 1 written (or already written: a repeat after a lost reply), 0 another owner raised the fence,
-- -1 the stored offsets are not those this batch follows: Redis lost writes.
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
  return 0
end
local at = 2
local offsets = tonumber(ARGV[at])
at = at + 1
local same, follows = 0, 0
for i = 0, offsets - 1 do
  local stored = redis.call('HGET', KEYS[1], ARGV[at + 3 * i]) or ''
  if stored == ARGV[at + 3 * i + 2] then same = same + 1 end
  if stored == ARGV[at + 3 * i + 1] then follows = follows + 1 end
end
if offsets > 0 and same == offsets then return 1 end
if follows ~= offsets then return -1 end
for _ = 1, offsets do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2])
  at = at + 3
end
local function pairs_of(act)
  local n = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, n do
    act(ARGV[at], ARGV[at + 1])
    at = at + 2
  end
end
pairs_of(function(field, by) redis.call('HINCRBY', KEYS[1], field, by) end)
pairs_of(function(field, bytes) redis.call('HSET', KEYS[2], field, bytes) end)
for k = 4, #KEYS do
  redis.call('ZADD', KEYS[3], ARGV[at + 1], ARGV[at])
  at = at + 2
  pairs_of(function(field, value) redis.call('HSET', KEYS[k], field, value) end)
end
return 1
