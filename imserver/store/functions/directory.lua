-- The directory: which sessions are where, and what their devices have kept.

-- Rewrites `on` without `device`; returns the other places and the device's former one, if any.
local function without(on, device)
  local rest, former = {}, nil
  for place, name in string.gmatch(on or '', '(([^= ]+)=[^ ]+)') do
    if name == device then former = place else rest[#rest + 1] = place end
  end
  return rest, former
end

-- Of each group in a user's list: its name, where the membership began ("?": perhaps), the device's cursor or 0-0.
local function groups_of(groups, device)
  local listed, by_field = redis.call('HGETALL', groups), {}
  for i = 1, #listed, 2 do by_field[listed[i]] = listed[i + 1] end
  local found = {}
  for i = 1, #listed, 2 do
    if string.byte(listed[i]) == 35 then -- 35: #
      found[#found + 1] = listed[i]
      found[#found + 1] = listed[i + 1]
      found[#found + 1] = by_field[device .. ' ' .. listed[i]] or '0-0'
    end
  end
  return found
end

-- attach: a session enters the directory and learns where the log stands, in one step: an entry is either before the
-- position returned here, or it is published to this session's node.
-- KEYS  1 state  2 account  3 users hosted by the node  4 groups of the user
-- ARGV  1 place (device=node.session)  2 token's generations ("user.device"), or - where it comes by password
--       3 "new": replaces another session of this device   "again": after a lost link; is it still there?
--       4 with "new": what is kept of the device's logins, as read just before, or 0  5 what is to be kept of them then,
--         without the generations; it ends with now (unix seconds)
--       6 where it comes by password: the hash that was checked, a while ago
-- Returns {'ok', last, cursor or false, generations, groups, owner of the bot or - or false: no bot};
-- or {'not-found'} {'disabled'} {'revoked'} {'changed'} (the account has another password now); "new" also {'late'}, where
-- the device has logged in since it was asked for (a call that a network held back must not push out that session); "again"
-- also {'replaced'}, and {'cleared'} where its node was taken for dead: it MUST NOT put itself back, since nobody would
-- clear it any more.
local function attach(keys, args)
  local place, device = args[1], device_at(args[1])
  local state = redis.call('HMGET', keys[1], 'last', 'on', 'c:' .. device, 's:' .. device)
  local account = redis.call('HMGET', keys[2], 'disabled', 'generation', 'generation:' .. device, 'bot', 'spared')
  if not state[1] then return NOT_FOUND end
  if account[1] then return { 'disabled' } end
  local generations = (account[2] or '0') .. '.' .. (account[3] or '0')
  if args[2] ~= '-' and args[2] ~= generations and account[5] ~= device .. ' ' .. args[2] then return { 'revoked' } end
  if args[6] and args[6] ~= redis.call('HGET', keys[2], 'password') then return { 'changed' } end
  local rest, former = without(state[2], device)
  if former ~= place then
    if args[3] == 'again' then return { former and 'replaced' or 'cleared' } end
    if args[4] ~= (state[4] or '0') then return { 'late' } end
    if former then expel(keys[1], former, 'replaced') end
    if not state[4] then redis.call('HSET', keys[2], 'first:' .. device, string.match(args[5], '%d+$')) end
    rest[#rest + 1] = place
    redis.call('HSET', keys[1], 'on', table.concat(rest, ' '), 's:' .. device, args[5] .. ' ' .. generations)
    redis.call('SADD', keys[3], user_of(keys[1]))
  end
  return { 'ok', state[1], state[3], generations, groups_of(keys[4], device), account[4] }
end

-- A device's cursor moves forward, never back, and never past the log's end.
local function moves_to(position, cursor, last)
  return last and not newer(position, last) and (not cursor or newer(position, cursor))
end

local function keep_cursor(state, device, position)
  local known = redis.call('HMGET', state, 'last', 'c:' .. device)
  if moves_to(position, known[2], known[1]) then redis.call('HSET', state, 'c:' .. device, position) end
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

local function release(state, hosted, node)
  local on = redis.call('HGET', state, 'on') or ''
  if not string.find(on, '=' .. node .. '.', 1, true) then redis.call('SREM', hosted, user_of(state)) end
end

-- detach: a session leaves the directory, unless another one has taken its device's place. Its cursor is kept.
-- KEYS  1 state  2 users hosted by the node  3 roster
-- ARGV  1 place (device=node.session)  2 position, or -  3 now (unix seconds)
-- Returns 1; 2 where there may be contacts to be told, sooner or later: then the caller MUST `release` the user, too.
local function detach(keys, args)
  local place, device = args[1], device_at(args[1])
  if args[2] ~= '-' then keep_cursor(keys[1], device, args[2]) end
  local rest, former = without(redis.call('HGET', keys[1], 'on'), device)
  if former == place then
    set_places(keys[1], rest)
    redis.call('HSET', keys[1], 'l:' .. device, args[3])
  end
  if redis.call('EXISTS', keys[3]) == 1 then return 2 end
  release(keys[1], keys[2], node_at(place))
  return 1
end

-- clear: a user has no session at a dead node any more.
-- KEYS  1 state  2 users hosted by the node  3 roster   ARGV  1 node  2 now (unix seconds)   Returns what `detach` does.
local function clear(keys, args)
  local rest = {}
  for place in string.gmatch(redis.call('HGET', keys[1], 'on') or '', '[^ ]+') do
    if node_at(place) ~= args[1] then
      rest[#rest + 1] = place
    elseif device_at(place) ~= '*' then -- *: of a group
      redis.call('HSET', keys[1], 'l:' .. device_at(place), args[2])
    end
  end
  set_places(keys[1], rest)
  if redis.call('EXISTS', keys[3]) == 1 then return 2 end
  redis.call('SREM', keys[2], user_of(keys[1]))
  return 1
end

-- release: a user's contacts know that its session at the node is gone; the node hosts it no longer, unless it is back, or
-- contacts are still told of a place there: then somebody waits for that one, and releases the user after it.
-- KEYS  1 state  2 users hosted by the node   ARGV  1 node   Returns 1.
local function release_hosted(keys, args)
  local told = redis.call('HGET', keys[1], 'told')
  local place = told and string.match(told, '^%S+ %S+ (%S+)')
  if not place or node_at(place) ~= args[1] then release(keys[1], keys[2], args[1]) end
  return 1
end

register_always('im_attach_2', attach)
register_always('im_ack_2', ack)
register_always('im_detach_2', detach)
register_always('im_clear_2', clear)
register_always('im_release_2', release_hosted)
