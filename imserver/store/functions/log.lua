-- Logs: entries are appended once each, and leave when they are old.

-- How far back a message is looked for that its sender sends again: bounds how long it holds up the store (1 ms).
local LOOK_BACK_ENTRIES, LOOK_BACK_BYTES, LOOK_BACK_PAGE = 1000, 1000000, 50

-- Where an entry that begins with `head` stands among those that have left the dedupe index (up to `low`); or nil.
local function stands_before(log, low, head)
  local bytes, last = 0, low
  for _ = 1, LOOK_BACK_ENTRIES / LOOK_BACK_PAGE do
    local page = redis.call('XREVRANGE', log, last, '-', 'COUNT', LOOK_BACK_PAGE)
    for _, entry in ipairs(page) do
      if string.sub(entry[2][4], 1, #head) == head then return entry[1] end
      bytes = bytes + #entry[2][4]
    end
    if #page < LOOK_BACK_PAGE or bytes > LOOK_BACK_BYTES then return nil end
    last = '(' .. page[#page][1]
  end
end

-- When an entry vanishes (unix seconds, as text); or nil. It says so at its very end (imserver/store/stored.py).
local function expires_of(content)
  return string.match(string.sub(content, -32), ',"expires":(%d+)}$')
end

-- What a repeat is told: where it stands; and of what vanishes when, as it was said the first time.
local function known_at(log, at, content)
  local expires = expires_of(content)
  if not expires then return { at } end
  local entry = redis.call('XRANGE', log, at, at)[1]
  return { at, false, tonumber(entry and expires_of(entry[2][4]) or expires) }
end

-- Puts an entry at the end of a log, behind `prev`, and publishes it to the nodes of `on`. `field` of the state is its
-- position from now on. Returns the position.
local function put(state, log, prev, on, content, origin, field)
  local at = redis.call('XADD', log, '*', 'p', prev, 'e', content)
  redis.call('HSET', state, 'last', at, field, at)
  -- Often nobody but the origin is there to be told of the sender's own copy.
  if on and on ~= '' and on ~= origin then
    local prefix, user = owner(state)
    publish(on, prefix, 'e ' .. user .. ' ' .. at .. ' ' .. prev .. ' ' .. origin .. ' ' .. content)
  end
  return at
end

-- How what a bot says begins (imserver/store/stored.py). Nobody can make anything else look so: the server writes the head.
local OF_BOT = '^{"ev":"%l+","bot":true,'

-- Whether somebody who does not take messages from everybody takes this one; nil, or what `append` returns. Bots are made by
-- the operator and are nobody's contacts: only a block keeps them away.
local function refusal(state, guard, dedupe, content)
  local pass = redis.call('HGET', state, 'w:' .. string.match(dedupe, '^[^/]+'))
  if pass == '-' then return BLOCKED end
  if guard == 'contacts' and pass ~= '+' and not string.match(content, OF_BOT) then return SHUT end
end

-- One entry at the end of a log, unless it is there already. Returns {position, prev}; or for a repeat {position}, of what
-- vanishes {position, nil, when}: nothing is stored, both are the first answer's; or a refusal.
local function append_to(state, log, dedupe, content, origin, again)
  local known = redis.call('HMGET', state, 'last', 'on', dedupe, 'guard')
  local prev, on = known[1], known[2]
  if not prev then return NOT_FOUND end
  if known[3] then return known_at(log, known[3], content) end
  if known[4] and origin == '-' then
    local refused = refusal(state, known[4], dedupe, content)
    if refused then return refused end
  end
  if again then
    local low = redis.call('HGET', state, 'low')
    local at = low and stands_before(log, low, string.sub(content, 1, again))
    if at then return known_at(log, at, content) end
  end
  return { put(state, log, prev, on, content, origin, dedupe), prev }
end

-- append: one entry at the end of a user's log.
-- KEYS  1 state  2 log
-- ARGV  1 dedupe field  2 content
--       3 origin (place of the session whose reply stands for the entry, or - in the recipient's log: who the recipient
--         blocks is refused)
--       4 if given: the first so many bytes of the content are looked for among the entries that left the index
-- Returns {position, prev}; for a repeat {position}, or {position, nil, when it vanishes (unix seconds)}, as of the first one;
-- {'not-found'} {'blocked'} {'shut'} (takes messages of contacts only).
-- Atomic, since dedupe, order, `prev` and blocks hold only if nothing comes between reading and writing.
local function append(keys, args)
  return append_to(keys[1], keys[2], args[1], args[2], args[3], args[4])
end

-- append_both: a message into the recipient's log and into the sender's own; both in one slot, or no cluster.
-- The same as two calls of `append`, the recipient's first; half as dear.
-- KEYS  1 state  2 log, of the recipient  3 state  4 log, of the sender
-- ARGV  1 dedupe field  2 content  3 origin  4 as for append
-- Returns what `append` to the sender's log returns; or a refusal by the recipient: nothing is stored; or {'not-found'}
-- where the sender does not exist any more: the recipient has it.
local function append_both(keys, args)
  local received = append_to(keys[1], keys[2], args[1], args[2], '-', args[4])
  if REFUSALS[received] then return received end
  local content = args[2]
  if received[3] then content = string.gsub(content, '%d+}$', string.format('%.0f}', received[3])) end
  return append_to(keys[3], keys[4], args[1], content, args[3], args[4])
end

local function field_of(entry)
  return entry.from .. '/' .. entry.device .. '/' .. entry.id
end

-- The dedupe fields that leave with an entry, from its content. Only the head is parsed: a body can be of any size and
-- depth. A deleted message has left the log before, and is known until its deletion is forgotten.
local function dedupe_fields(content)
  local head = string.match(content, '^(.-),"body":')
  if head then return { field_of(cjson.decode(head .. '}')) } end
  local ev = string.match(content, '^{"ev":"(%l+)"')
  if ev ~= 'delete' and ev ~= 'reaction' then return {} end
  local entry = cjson.decode(content)
  if ev == 'reaction' then return { field_of(entry) } end
  return { field_of(entry), field_of(entry.of), 'x:' .. field_of(entry.of) }
end

-- The first position that can come after this one.
local function behind(position)
  local milliseconds, counter = string.match(position, '^(%d+)-(%d+)$')
  return milliseconds .. '-' .. string.format('%.0f', counter + 1)
end

local MOST_EXPIRED = 256 -- removed in one call

-- What has expired leaves the log.
local function remove_expired(log, expiring, now)
  local due = redis.call('ZRANGE', expiring, 0, now, 'BYSCORE', 'LIMIT', 0, MOST_EXPIRED)
  if #due == 0 then return end
  redis.call('XDEL', log, unpack(due))
  redis.call('ZREM', expiring, unpack(due))
end

-- trim: the log and its dedupe index are cut to their bounds, and what has expired is removed. Called now and then, after an
-- append, and when somebody reads what should not be there any more.
-- The index covers a suffix of the log: an entry's field goes before the entry does, so no field is ever orphaned. What
-- expires is noted when it leaves the index, so not before that; appending has nothing to do with it.
-- KEYS  1 state  2 log  3 expiring (sorted set: position -> unix seconds), of what has left the index
-- ARGV  1 now (ms)  2 most entries  3 longest age (ms)  4 dedupe window (ms)  5 most steps
-- Returns the number of entries that left the index.
local function trim(keys, args)
  local now, most, age, window, steps = tonumber(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local low = redis.call('HGET', keys[1], 'low') or '0-0'
  local surplus = redis.call('XLEN', keys[2]) - most
  local surplus_end, oldest = '0-0', {}
  if surplus > 0 then
    oldest = redis.call('XRANGE', keys[2], '-', '+', 'COUNT', math.min(surplus, steps))
    if #oldest > 0 then surplus_end = oldest[#oldest][1] end
  end
  -- Only what leaves the index is read: mostly nothing, and reading a log that stays as it is would be the larger cost.
  local last = string.format('%.0f', math.max(0, now - window - 1))
  if newer(surplus_end, last .. '-0') then last = surplus_end end
  local passed = 0
  for _, entry in ipairs(redis.call('XRANGE', keys[2], '(' .. low, last, 'COUNT', steps)) do
    for _, field in ipairs(dedupe_fields(entry[2][4])) do redis.call('HDEL', keys[1], field) end
    local expires = expires_of(entry[2][4])
    if expires then redis.call('ZADD', keys[3], expires, entry[1]) end
    low = entry[1]
    passed = passed + 1
  end
  if passed > 0 then redis.call('HSET', keys[1], 'low', low) end
  local cut = string.format('%.0f', now - age) .. '-0'
  if newer(surplus_end, cut) then cut = behind(surplus_end) end
  if newer(cut, low) then cut = behind(low) end
  if redis.call('XTRIM', keys[2], 'MINID', cut) > 0 then
    redis.call('HSET', keys[1], 'cut', cut)
    for _, entry in ipairs(oldest) do redis.call('ZREM', keys[3], entry[1]) end
  end
  remove_expired(keys[2], keys[3], math.floor(now / 1000))
  return passed
end

-- Refused where the store is full.
redis.register_function('im_append_2', append)
redis.register_function('im_append_both_2', append_both)
register_always('im_trim_2', trim)
