#!lua name=im_2
-- The functions of the server's store, library version 2.
--
-- Each is one atomic step on the keys of one user (one slot); append_both alone concerns two, and is for a single instance.
-- Each can be called again with the same arguments after a lost link: the second call finds the first one's work and
-- gives the same answer. All keys are declared; channels carry the tag of the keys.
--
-- Workers of two versions run side by side while they are replaced. So whoever changes what a function takes, returns or
-- publishes gives library and functions the next version; the one before stays loaded.
--
-- The state hash of a user ({T}u:<user>):
--   last                    position of the newest entry of the log; it exists exactly while the account does
--   on                      places of the connected devices: "device=node.session device=node.session"
--   c:<device>              cursor: the device has kept all entries up to there
--   s:<device>              how often the device has logged in
--   low                     entries before this position have left the dedupe index
--   <user>/<device>/<id>    dedupe: position of the entry with this sender, device and client message id
--
-- Hosted users ({T}h:<node>, a set): the users of a partition with a place at the node. It may have more, who left; never
-- fewer: a dead node is cleared by it.
--
-- An entry of the log: p = position of the entry before it, e = content.

local NOT_FOUND = { 'not-found' }

local function newer(a, b)
  local am, ac = string.match(a, '^(%d+)-(%d+)$')
  local bm, bc = string.match(b, '^(%d+)-(%d+)$')
  am, ac, bm, bc = tonumber(am), tonumber(ac), tonumber(bm), tonumber(bc)
  return am > bm or (am == bm and ac > bc)
end

-- Of a state key, {T}u:<user>: the prefix of the channels of its partition, {T}n:, and the user. Taken from the key, since
-- each argument of a call costs as much as cutting it out here, and only some calls need it.
local function owner(state)
  local tag, user = string.match(state, '^(.-})u:(.+)$')
  return tag .. 'n:', user
end

local function user_of(state)
  local _, user = owner(state)
  return user
end

-- Publishes to every node that hosts a device of `on`, once each. pcall: an entry that is stored stays stored, whatever
-- happens to the hint that carries it early.
local function publish(on, prefix, message)
  if not string.find(on, ' ', 1, true) then
    redis.pcall('SPUBLISH', prefix .. string.match(on, '=([^.]+)'), message)
    return
  end
  local told = {}
  for node in string.gmatch(on, '=([^.]+)') do
    if not told[node] then
      told[node] = true
      redis.pcall('SPUBLISH', prefix .. node, message)
    end
  end
end

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

-- One entry at the end of a log, unless it is there already. Returns {position, prev}, or {position} for a repeat:
-- nothing is stored, the position is the first answer's; or {'not-found'} where the user does not exist.
local function append_to(state, log, dedupe, content, origin, again)
  local known = redis.call('HMGET', state, 'last', 'on', dedupe)
  local prev, on = known[1], known[2]
  if not prev then return NOT_FOUND end
  if known[3] then return { known[3] } end
  if again then
    local low = redis.call('HGET', state, 'low')
    local at = low and stands_before(log, low, string.sub(content, 1, again))
    if at then return { at } end
  end
  local at = redis.call('XADD', log, '*', 'p', prev, 'e', content)
  redis.call('HSET', state, 'last', at, dedupe, at)
  -- Often nobody but the origin is there to be told of the sender's own copy.
  if on and on ~= '' and on ~= origin then
    local prefix, user = owner(state)
    publish(on, prefix, 'e ' .. user .. ' ' .. at .. ' ' .. prev .. ' ' .. origin .. ' ' .. content)
  end
  return { at, prev }
end

-- append: one entry at the end of a user's log.
-- KEYS  1 state  2 log
-- ARGV  1 dedupe field  2 content  3 origin (place of the session whose reply stands for the entry, or -)
--       4 if given: the first so many bytes of the content are looked for among the entries that left the index
-- Returns {position, prev}; {position} for a repeat; {'not-found'}.
-- Atomic, since dedupe, order and `prev` hold only if nothing comes between reading `last` and writing it.
local function append(keys, args)
  return append_to(keys[1], keys[2], args[1], args[2], args[3], args[4])
end

-- append_both: a message into the recipient's log and into the sender's own; both in one slot, or no cluster.
-- The same as two calls of `append`, the recipient's first; half as dear.
-- KEYS  1 state  2 log, of the recipient  3 state  4 log, of the sender
-- ARGV  1 dedupe field  2 content  3 origin  4 as for append
-- Returns what `append` to the sender's log returns; {'not-found'} where the recipient does not exist: nothing is stored;
-- or where the sender does not any more: the recipient has it.
local function append_both(keys, args)
  local received = append_to(keys[1], keys[2], args[1], args[2], '-', args[4])
  if received == NOT_FOUND then return received end
  return append_to(keys[3], keys[4], args[1], args[2], args[3], args[4])
end

-- The device at a place.
local function device_at(place)
  return string.match(place, '^[^=]+')
end

-- The node at a place.
local function node_at(place)
  return string.match(place, '=([^.]+)')
end

-- Tells the session at `place` to go.
local function expel(state, place, why)
  local prefix, user = owner(state)
  publish(place, prefix, 'x ' .. user .. ' ' .. place .. ' ' .. why)
end

-- Rewrites `on` without `device`; returns the other places and the device's former one, if any.
local function without(on, device)
  local rest, former = {}, nil
  for place, name in string.gmatch(on or '', '(([^= ]+)=[^ ]+)') do
    if name == device then former = place else rest[#rest + 1] = place end
  end
  return rest, former
end

-- attach: a session enters the directory and learns where the log stands, in one step: an entry is either before the
-- position returned here, or it is published to this session's node.
-- KEYS  1 state  2 account  3 users hosted by the node
-- ARGV  1 place (device=node.session)  2 token's generations ("user.device"), or -
--       3 "new": replaces another session of this device   "again": after a lost link; is it still there?
--       4 with "new": the device's logins so far, as read just before
-- Returns {'ok', last, cursor or false, generations}; or {'not-found'} {'disabled'} {'revoked'}; "new" also {'late'}, where
-- the device has logged in since it was asked for (a call that a network held back must not push out that session); "again"
-- also {'replaced'}, and {'cleared'} where its node was taken for dead: it MUST NOT put itself back, since nobody would
-- clear it any more.
local function attach(keys, args)
  local place, device = args[1], device_at(args[1])
  local state = redis.call('HMGET', keys[1], 'last', 'on', 'c:' .. device, 's:' .. device)
  local account = redis.call('HMGET', keys[2], 'disabled', 'generation', 'generation:' .. device)
  if not state[1] then return NOT_FOUND end
  if account[1] then return { 'disabled' } end
  local generations = (account[2] or '0') .. '.' .. (account[3] or '0')
  if args[2] ~= '-' and args[2] ~= generations then return { 'revoked' } end
  local rest, former = without(state[2], device)
  if former ~= place then
    if args[3] == 'again' then return { former and 'replaced' or 'cleared' } end
    if args[4] ~= (state[4] or '0') then return { 'late' } end
    if former then expel(keys[1], former, 'replaced') end
    rest[#rest + 1] = place
    redis.call('HSET', keys[1], 'on', table.concat(rest, ' '), 's:' .. device, args[4] + 1)
    redis.call('SADD', keys[3], user_of(keys[1]))
  end
  return { 'ok', state[1], state[3], generations }
end

local function keep_cursor(state, device, position)
  local known = redis.call('HMGET', state, 'last', 'c:' .. device)
  if known[1] and not newer(position, known[1]) and (not known[2] or newer(position, known[2])) then
    redis.call('HSET', state, 'c:' .. device, position)
  end
end

-- ack: a device's cursor moves forward, never back, and never past the log's end.
-- KEYS  1 state   ARGV  1 device  2 position   Returns 1.
local function ack(keys, args)
  keep_cursor(keys[1], args[1], args[2])
  return 1
end

local function set_places(state, places)
  if #places > 0 then
    redis.call('HSET', state, 'on', table.concat(places, ' '))
  else
    redis.call('HDEL', state, 'on')
  end
end

-- detach: a session leaves the directory, unless another one has taken its device's place. Its cursor is kept.
-- KEYS  1 state  2 users hosted by the node   ARGV  1 place (device=node.session)  2 position, or -   Returns 1.
local function detach(keys, args)
  local place, device = args[1], device_at(args[1])
  if args[2] ~= '-' then keep_cursor(keys[1], device, args[2]) end
  local on = redis.call('HGET', keys[1], 'on') or ''
  local rest, former = without(on, device)
  if former == place then
    set_places(keys[1], rest)
    on = table.concat(rest, ' ')
  end
  if not string.find(on, '=' .. node_at(place) .. '.', 1, true) then redis.call('SREM', keys[2], user_of(keys[1])) end
  return 1
end

-- clear: a user has no session at a dead node any more.
-- KEYS  1 state  2 users hosted by the node   ARGV  1 node   Returns 1.
local function clear(keys, args)
  local rest = {}
  for place in string.gmatch(redis.call('HGET', keys[1], 'on') or '', '[^ ]+') do
    if node_at(place) ~= args[1] then rest[#rest + 1] = place end
  end
  set_places(keys[1], rest)
  redis.call('SREM', keys[2], user_of(keys[1]))
  return 1
end

-- The dedupe field of an entry, from its content; nil where it has none. Only the head is parsed: a body can be of any
-- size and depth.
local function dedupe_field(content)
  local head = string.match(content, '^(.-),"body":')
  if not head then return nil end
  local entry = cjson.decode(head .. '}')
  return entry.from .. '/' .. entry.device .. '/' .. entry.id
end

-- The first position that can come after this one.
local function behind(position)
  local milliseconds, counter = string.match(position, '^(%d+)-(%d+)$')
  return milliseconds .. '-' .. string.format('%.0f', counter + 1)
end

-- trim: the log and its dedupe index are cut to their bounds. Called now and then, after an append.
-- The index covers a suffix of the log: an entry's field goes before the entry does, so no field is ever orphaned.
-- KEYS  1 state  2 log
-- ARGV  1 now (ms)  2 most entries  3 longest age (ms)  4 dedupe window (ms)  5 most steps
-- Returns the number of entries that left the index.
local function trim(keys, args)
  local now, most, age, window, steps = tonumber(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local low = redis.call('HGET', keys[1], 'low') or '0-0'
  local surplus = redis.call('XLEN', keys[2]) - most
  local surplus_end = '0-0'
  if surplus > 0 then
    local oldest = redis.call('XRANGE', keys[2], '-', '+', 'COUNT', math.min(surplus, steps))
    if #oldest > 0 then surplus_end = oldest[#oldest][1] end
  end
  -- Only what leaves the index is read: mostly nothing, and reading a log that stays as it is would be the larger cost.
  local last = string.format('%.0f', math.max(0, now - window - 1))
  if newer(surplus_end, last .. '-0') then last = surplus_end end
  local passed = 0
  for _, entry in ipairs(redis.call('XRANGE', keys[2], '(' .. low, last, 'COUNT', steps)) do
    local field = dedupe_field(entry[2][4])
    if field then redis.call('HDEL', keys[1], field) end
    low = entry[1]
    passed = passed + 1
  end
  if passed > 0 then redis.call('HSET', keys[1], 'low', low) end
  local cut = string.format('%.0f', now - age) .. '-0'
  if newer(surplus_end, cut) then cut = behind(surplus_end) end
  if newer(cut, low) then cut = behind(low) end
  redis.call('XTRIM', keys[2], 'MINID', cut)
  return passed
end

-- register: a new account and its empty log.
-- KEYS  1 state  2 account   ARGV  1 password hash, or empty (logs in by token only)  2 now (unix seconds)
-- Returns {'ok'}; also for a repeat of the call that made the account; {'exists'} otherwise.
local function register(keys, args)
  local known = redis.call('HMGET', keys[2], 'password', 'created')
  if known[2] then
    return { known[1] == args[1] and args[1] ~= '' and 'ok' or 'exists' }
  end
  redis.call('HSET', keys[2], 'password', args[1], 'created', args[2])
  redis.call('HSET', keys[1], 'last', '0-0')
  return { 'ok' }
end

-- revoke: tokens given out so far stop working and the sessions they opened are told to close.
-- KEYS  1 state  2 account   ARGV  1 device, or empty for all   Returns {'ok'} {'not-found'}.
local function revoke(keys, args)
  if redis.call('EXISTS', keys[2]) == 0 then return NOT_FOUND end
  local device = args[1]
  redis.call('HINCRBY', keys[2], device == '' and 'generation' or 'generation:' .. device, 1)
  for place in string.gmatch(redis.call('HGET', keys[1], 'on') or '', '[^ ]+') do
    if device == '' or device == device_at(place) then expel(keys[1], place, 'revoked') end
  end
  return { 'ok' }
end

-- erase: the account, its log and its state are gone; its sessions are told to close.
-- KEYS  1 state  2 account  3 log   Returns {'ok'} {'not-found'}.
local function erase(keys)
  local answer = revoke(keys, { '' })
  redis.call('DEL', keys[1], keys[2], keys[3])
  return answer
end

-- Milliseconds since 1970, by the clock of this instance: leases are compared with no other.
local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function ms(number)
  return string.format('%.0f', number)
end

-- renew: a node takes its lease on this shard, or renews it.
-- KEYS  1 nodes  2 infos   ARGV  1 node  2 lease (ms)  3 what the node says of itself, or empty: it renews
-- Returns {'ok'}; {'dead'} where there is none to renew: the node was taken for dead.
local function renew(keys, args)
  local node, info = args[1], args[3]
  if info == '' and not redis.call('ZSCORE', keys[1], node) then return { 'dead' } end
  redis.call('ZADD', keys[1], ms(now_ms() + args[2]), node)
  redis.call('HDEL', keys[2], 'suspect ' .. node)
  if info ~= '' then redis.call('HSET', keys[2], node, info) end
  return { 'ok' }
end

-- leave: a node gives its lease back.   KEYS  1 nodes  2 infos   ARGV  1 node   Returns 1.
local function leave(keys, args)
  redis.call('ZREM', keys[1], args[1])
  redis.call('HDEL', keys[2], args[1])
  return 1
end

-- take_dead: the caller is given the nodes whose leases have ended, to clear them; and those that whoever was given them
-- before has not cleared in time. A node to be cleared is in the sorted set as "dead <node>", until then.
-- A lease that has ended only makes its node suspect; the verdict is a later call's. For this instance may have stood
-- still, or its clock may have been set: then all leases have ended, and each node has a renewal on its way.
-- KEYS  1 nodes  2 infos   ARGV  1 time for clearing (ms)  2 time for the suspect (ms)   Returns the nodes.
local function take_dead(keys, args)
  local now, dead = now_ms(), {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys[1], '-inf', ms(now))) do
    local node, was_dead = string.gsub(member, '^dead ', '')
    local since = was_dead == 0 and redis.call('HGET', keys[2], 'suspect ' .. node)
    if was_dead == 0 and not since then
      redis.call('HSET', keys[2], 'suspect ' .. node, ms(now))
    elseif was_dead == 1 or now - since >= tonumber(args[2]) then
      redis.call('ZREM', keys[1], member)
      redis.call('ZADD', keys[1], ms(now + args[1]), 'dead ' .. node)
      redis.call('HDEL', keys[2], node, 'suspect ' .. node)
      dead[#dead + 1] = node
    end
  end
  return dead
end

-- signing_keys: the keys that sign tokens; the first caller of a deployment makes the first one.
-- KEYS  1 signing keys (hash: id -> secret, `current` -> id)   ARGV  1 id  2 secret  3 "first" or "rotate"
-- Returns the hash as a flat list. A repeated rotation with the same id changes nothing.
local function signing_keys(keys, args)
  if args[3] == 'rotate' or redis.call('HEXISTS', keys[1], 'current') == 0 then
    redis.call('HSET', keys[1], args[1], args[2], 'current', args[1])
  end
  return redis.call('HGETALL', keys[1])
end

-- What adds messages and accounts is refused where the store is full. All the rest is not: it keeps sessions alive, or makes
-- room.
redis.register_function('im_append_2', append)
redis.register_function('im_append_both_2', append_both)
redis.register_function('im_register_2', register)
local function register_always(name, callback)
  redis.register_function{ function_name = name, callback = callback, flags = { 'allow-oom' } }
end

register_always('im_attach_2', attach)
register_always('im_ack_2', ack)
register_always('im_detach_2', detach)
register_always('im_trim_2', trim)
register_always('im_revoke_2', revoke)
register_always('im_erase_2', erase)
register_always('im_signing_keys_2', signing_keys)
register_always('im_clear_2', clear)
register_always('im_renew_2', renew)
register_always('im_leave_2', leave)
register_always('im_take_dead_2', take_dead)
