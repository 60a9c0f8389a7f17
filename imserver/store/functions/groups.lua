-- Groups: a log that many users follow, its members, and each user's list of groups.
--
-- A group is written to as a user is: state hash and log have the same form, and are trimmed by the same function. Only,
-- in its state hash,
--   on        has nodes, each as the place "*=node.0": an entry is published once to each node that hosts a follower
--   name, topic, open, history, posting, members, created, made    what the group is; how many members it has
--
-- Members of a group ({T}m:#g, a hash):
--   <user>    "<standing> <from>": o owner, a admin, m member; from: position of the entry by which the user joined
--   +<user>   position of the entry by which the user was invited
--   !<user>   position of the entry by which the user was banned
--   @<user>   position of the newest message that mentions the user; only of members
--   *         is there where only owner and admins may post
--
-- Groups of a user ({T}g:<user>, a hash, in the user's slot):
--   #g            from, as in the group's members; "?": about to be joined, so that a worker that dies leaves a trace
--   +#g           position (in the group's log) of the invitation
--   <device> #g   the device's cursor in the group's log
--   *             how many groups the user has made
--
-- The two are in two slots. The group's members are the truth; the list follows: `enlist` makes it say what the group said
-- at a position of its log, and never goes back behind that.

local function position_now()
  return ms(now_ms()) .. '-0'
end

-- How a user stands to a group (imserver/protocol/groups.py has the letters), and since which position.
local function standing(state, members, user)
  local known = redis.call('HMGET', members, user, '+' .. user, '!' .. user)
  if known[1] then return string.sub(known[1], 1, 1), string.sub(known[1], 3) end
  if known[3] then return 'b', known[3] end
  if known[2] then return 'i', known[2] end
  return redis.call('HGET', state, 'open') == '1' and 'v' or '-', nil
end

-- An entry that is no message: nobody repeats it, since the step it belongs to is done once.
local function append_event(state, log, content)
  local known = redis.call('HMGET', state, 'last', 'on')
  local at = redis.call('XADD', log, '*', 'p', known[1], 'e', content)
  redis.call('HSET', state, 'last', at)
  if known[2] and known[2] ~= '' then
    local prefix, owner_of_log = owner(state)
    publish(known[2], prefix, 'e ' .. owner_of_log .. ' ' .. at .. ' ' .. known[1] .. ' - ' .. content)
  end
  return at
end

-- Whether a user may post; and since which position it is a member.
local function posts(members, user)
  local known = redis.call('HMGET', members, user, '*')
  return known[1] and not (known[2] and string.byte(known[1]) == 109), known[1] and string.sub(known[1], 3) -- 109: m
end

-- The message at that position mentions users, of whom members are told where it is.
local function note_mentions(members, users, at)
  local known, noted = redis.call('HMGET', members, unpack(users)), {}
  for i, user in ipairs(users) do
    if known[i] then
      noted[#noted + 1] = '@' .. user
      noted[#noted + 1] = at
    end
  end
  if noted[1] then redis.call('HSET', members, unpack(noted)) end
end

-- append_group: a message into a group's log.
-- KEYS  1 state  2 log  3 members
-- ARGV  1 dedupe field  2 content  3 origin  4 sender, and behind a space where its membership began, if it is known
--       5 if given, and not empty: as for append  6 ... users it mentions
-- Returns {position, prev}; {position} for a repeat; {'not-found'}; {'refused', standing}; {'former'}.
-- Atomic: whoever is thrown out has no message in the log behind the entry that says so; and no message is there whose
-- mentions are not noted, so that a repeat has nothing to complete.
-- A message belongs to the membership in which it was said. The call of a worker that was cut off may come late, when its
-- user has been told elsewhere that this message is refused, and is a member again: it is not for that one.
local function append_group(keys, args)
  local user, said_in = string.match(args[4], '^(%S+) ?(.*)$')
  local may, since = posts(keys[3], user)
  if may and (said_in == '' or said_in == since) then
    local appended = append_to(keys[1], keys[2], args[1], args[2], args[3], args[5] ~= '' and args[5])
    if args[6] and appended[2] then note_mentions(keys[3], { unpack(args, 6) }, appended[1]) end
    return appended
  end
  if redis.call('EXISTS', keys[1]) == 0 then return NOT_FOUND end
  local at = redis.call('HGET', keys[1], args[1]) -- it was stored, before the sender lost the right
  if at then return { at } end
  if may then return { 'former' } end
  return { 'refused', (standing(keys[1], keys[3], user)) }
end

-- create_group.
-- KEYS  1 state  2 log  3 members
-- ARGV  1 owner  2 what makes this call different from all others  3 content of the first entry  4 ... field, value, ...
-- Returns {'ok', position of the first entry}, for a repeat as well; {'exists'}.
local function create_group(keys, args)
  local made = redis.call('HGET', keys[1], 'made')
  if made == args[2] then return { 'ok', redis.call('HGET', keys[1], 'first') } end
  if made then return { 'exists' } end
  redis.call('HSET', keys[1], 'last', '0-0', 'made', args[2], 'members', 1, unpack(args, 4))
  local at = append_event(keys[1], keys[2], args[3])
  redis.call('HSET', keys[1], 'first', at)
  redis.call('HSET', keys[3], args[1], 'o ' .. at)
  if redis.call('HGET', keys[1], 'posting') == 'admins' then redis.call('HSET', keys[3], '*', 1) end
  return { 'ok', at }
end

-- Who is to own a group whose owner goes: of the admins, or else of the members, who has been there longest.
local function successor(members)
  local best, best_standing, best_from = nil, 'm', nil
  local all = redis.call('HGETALL', members)
  for i = 1, #all, 2 do
    if string.find(all[i], '^[%l%d]') then
      local is, from = string.sub(all[i + 1], 1, 1), string.sub(all[i + 1], 3)
      local is_elder = best == nil or is == best_standing and newer(best_from, from)
      if is_elder or is == 'a' and best_standing == 'm' then
        best, best_standing, best_from = all[i], is, from
      end
    end
  end
  return best, best_from
end

local function remove_member(keys, target, was)
  if not string.find('oam', was, 1, true) then return end
  redis.call('HDEL', keys[3], target, '@' .. target)
  if redis.call('HINCRBY', keys[1], 'members', -1) == 0 then
    redis.call('DEL', unpack(keys)) -- nobody is left: the group is no more
  elseif was == 'o' then
    local user, from = successor(keys[3])
    redis.call('HSET', keys[3], user, 'o ' .. from)
    local _, group = owner(keys[1])
    append_event(keys[1], keys[2], '{"ev":"group","log":"' .. group .. '","change":"role","user":"' .. user
      .. '","role":"owner","by":"' .. target .. '"}')
  end
end

-- What each change does to the members; `at` is the position of its entry.
local DO = {}

function DO.join(keys, target, _, at)
  redis.call('HSET', keys[3], target, 'm ' .. at)
  redis.call('HDEL', keys[3], '+' .. target)
  redis.call('HINCRBY', keys[1], 'members', 1)
end

DO.add = DO.join

function DO.invite(keys, target, _, at)
  redis.call('HSET', keys[3], '+' .. target, at)
end

function DO.leave(keys, target, was)
  redis.call('HDEL', keys[3], '+' .. target)
  remove_member(keys, target, was)
end

DO.kick = DO.leave

function DO.ban(keys, target, was, at)
  redis.call('HDEL', keys[3], '+' .. target)
  redis.call('HSET', keys[3], '!' .. target, at)
  remove_member(keys, target, was)
end

function DO.unban(keys, target)
  redis.call('HDEL', keys[3], '!' .. target)
end

function DO.role(keys, target, _, _, args, from)
  redis.call('HSET', keys[3], target, args[7] .. ' ' .. from)
  if args[7] == 'o' then redis.call('HSET', keys[3], args[2], 'a ' .. string.sub(redis.call('HGET', keys[3], args[2]), 3)) end
end

function DO.set(keys, _, _, _, args)
  redis.call('HSET', keys[1], unpack(args, 7))
  if redis.call('HGET', keys[1], 'posting') == 'admins' then
    redis.call('HSET', keys[3], '*', 1)
  else
    redis.call('HDEL', keys[3], '*')
  end
end

-- change: of members, roles or settings, where the rule allows it, with its entry in the group's log.
-- KEYS  1 state  2 log  3 members  4 expiring: all that there is of the group
-- ARGV  1 action  2 actor  3 target  4, 5 rule: what may be done, what counts as done  6 content of the entry
--       7 role: the letter; set: field  value  ...; join, add: most members
-- Returns {'ok', position of the entry}; {'done', position}: as if it had been done at that position (of a member: where the
-- membership began); {'refused', actor's standing, target's}; {'full'}; {'not-found', position}: there is no group now.
-- Atomic: right, change and entry belong together, and the log has the changes in the order in which they were made.
local function change(keys, args)
  local action, actor, target = args[1], args[2], args[3]
  local known = redis.call('HMGET', keys[1], 'last', 'members')
  if not known[1] then return { 'not-found', position_now() } end
  local mine = standing(keys[1], keys[3], actor)
  local was, from = standing(keys[1], keys[3], target)
  local pair = mine .. was
  if string.find(args[5], pair, 1, true) or action == 'role' and was == args[7] then
    return { 'done', from or known[1] }
  end
  if not string.find(args[4], pair, 1, true) then return { 'refused', mine, was } end
  if (action == 'join' or action == 'add') and tonumber(known[2]) >= tonumber(args[7]) then return { 'full' } end
  local at = append_event(keys[1], keys[2], args[6])
  DO[action](keys, target, was, at, args, from)
  return { 'ok', at }
end

-- group_info: what a group is, and how a user stands to it.
-- KEYS  1 state  2 members   ARGV  1 user
-- Returns {} where there is no group; else {standing, from or empty, position of the newest message that mentions the user or
-- empty, name, topic, open, history, posting, members, last}.
local function group_info(keys, args)
  local known = redis.call('HMGET', keys[1], 'name', 'topic', 'open', 'history', 'posting', 'members', 'last')
  if not known[7] then return {} end
  local is, from = standing(keys[1], keys[2], args[1])
  return { is, from or '', redis.call('HGET', keys[2], '@' .. args[1]) or '', unpack(known) }
end

-- The node hosts a follower of the group.
local function host(state, hosting, on, node)
  if string.find(on or '', '=' .. node .. '.', 1, true) then return end
  redis.call('HSET', state, 'on', (on and on ~= '' and on .. ' ' or '') .. '*=' .. node .. '.0')
  redis.call('SADD', hosting, user_of(state))
end

-- follow: a session of a member follows the group from now on: an entry is either up to the end returned here, or it is
-- published to the session's node. `clear` ends it, for the node's last follower.
-- KEYS  1 state  2 log  3 members  4 users and groups hosted by the node
-- ARGV  1 node  2 user  3 the device's cursor, or 0-0  4 so many entries are given to a device that was away
-- Returns {'ok', end, where the membership began, where to go on, entries behind that: 0, where they are no more than given,
-- position of the newest of those that mentions the user: empty, where there is none, or they are given}; {'absent', end}: no
-- member as of there.
local function follow(keys, args)
  local known = redis.call('HMGET', keys[1], 'last', 'on')
  if not known[1] then return { 'absent', position_now() } end
  local member = redis.call('HGET', keys[3], args[2])
  if not member then return { 'absent', known[1] } end
  host(keys[1], keys[4], known[2], args[1])
  local last, from, start, most, surplus, mentioned = known[1], string.sub(member, 3), args[3], tonumber(args[4]), 0, ''
  if newer(from, start) then start = from end
  if newer(start, last) then start = last end
  if start ~= last and redis.call('XLEN', keys[2]) > most then
    local behind = #redis.call('XRANGE', keys[2], '(' .. start, '+', 'COUNT', most + 1)
    if behind > most then
      surplus, mentioned = behind, redis.call('HGET', keys[3], '@' .. args[2]) or ''
      if mentioned ~= '' and not newer(mentioned, start) then mentioned = '' end
    end
  end
  return { 'ok', last, from, start, surplus, mentioned }
end

-- follow_again: after a lost link, for all followers at the node: it is still entered, or again.
-- KEYS  1 state  2 users and groups hosted by the node   ARGV  1 node   Returns the end of the log, empty without a group.
local function follow_again(keys, args)
  local known = redis.call('HMGET', keys[1], 'last', 'on')
  if not known[1] then return '' end
  host(keys[1], keys[2], known[2], args[1])
  return known[1]
end

-- group_typing: tells the members who are connected that one of them types, who may post.
-- KEYS  1 state  2 members   ARGV  1 who types  2 "1" or "0"  3 most members   Returns 1.
local function group_typing(keys, args)
  local known = redis.call('HMGET', keys[1], 'on', 'members')
  if known[1] and known[1] ~= '' and tonumber(known[2]) <= tonumber(args[3]) and posts(keys[2], args[1]) then
    local prefix, group = owner(keys[1])
    publish(known[1], prefix, 't ' .. group .. ' ' .. args[1] .. ' ' .. args[2])
  end
  return 1
end

-- announce: a user is about to join a group, or to make it. Whoever dies behind this call leaves a trace in the list, and the
-- next login asks the group.
-- KEYS  1 state  2 groups of the user   ARGV  1 group  2 most groups  3 most groups made by one user, or empty: it is joined
-- Returns {'ok'} {'not-found'} {'full'}.
local function announce(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return NOT_FOUND end
  if redis.call('HEXISTS', keys[2], args[1]) == 1 then return { 'ok' } end
  local groups = 0
  for _, field in ipairs(redis.call('HKEYS', keys[2])) do
    if string.sub(field, 1, 1) == '#' then groups = groups + 1 end
  end
  if groups >= tonumber(args[2]) then return { 'full' } end
  if args[3] ~= '' then
    if tonumber(redis.call('HGET', keys[2], '*') or 0) >= tonumber(args[3]) then return { 'full' } end
    redis.call('HINCRBY', keys[2], '*', 1)
  end
  redis.call('HSET', keys[2], args[1], '?')
  return { 'ok' }
end

local function forget_group(groups, group)
  for _, field in ipairs(redis.call('HKEYS', groups)) do
    if field == group or string.match(field, ' (#.+)$') == group then redis.call('HDEL', groups, field) end
  end
end

-- enlist: the user's list, and log, say of a membership what the group says. Late or repeated calls change nothing.
-- KEYS  1 state  2 log  3 groups of the user
-- ARGV  1 group  2 position of the group's log: this is how it is as of there  3 "joined", "invited", or "gone"
--       4 content of the entry
-- Returns {'ok'}; {'not-found'}.
local function enlist(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return NOT_FOUND end
  local group, as_of, what = args[1], args[2], args[3]
  local known = redis.call('HMGET', keys[3], group, '+' .. group)
  local is_pending = known[1] == '?'
  local from = not is_pending and known[1] or nil
  local was = what == 'invited' and known[2] or from
  if what == 'gone' then
    redis.call('HDEL', keys[3], '+' .. group)
    if not from or newer(from, as_of) then -- as of the very beginning: the group has lost it, in a failover
      if is_pending then redis.call('HDEL', keys[3], group) end
      return { 'ok' }
    end
    forget_group(keys[3], group)
  elseif was and not newer(as_of, was) then
    return { 'ok' }
  elseif what == 'invited' then
    if from then return { 'ok' } end
    redis.call('HSET', keys[3], '+' .. group, as_of)
  else
    redis.call('HSET', keys[3], group, as_of)
    redis.call('HDEL', keys[3], '+' .. group)
  end
  append_event(keys[1], keys[2], args[4])
  return { 'ok' }
end

-- ack_group: a device's cursor in a group's log moves forward, never back.
-- KEYS  1 groups of the user   ARGV  1 device  2 group  3 position   Returns 1.
local function ack_group(keys, args)
  local field = args[1] .. ' ' .. args[2]
  local known = redis.call('HMGET', keys[1], args[2], field)
  if known[1] and (not known[2] or newer(args[3], known[2])) then redis.call('HSET', keys[1], field, args[3]) end
  return 1
end

redis.register_function('im_append_group_2', append_group) -- these three are refused where the store is full
redis.register_function('im_create_group_2', create_group)
redis.register_function('im_announce_2', announce)
register_always('im_change_2', change)
redis.register_function{ function_name = 'im_group_info_2', callback = group_info, flags = { 'no-writes' } }
redis.register_function{ function_name = 'im_group_typing_2', callback = group_typing, flags = { 'allow-oom' } }
register_always('im_follow_2', follow)
register_always('im_follow_again_2', follow_again)
register_always('im_enlist_2', enlist)
register_always('im_ack_group_2', ack_group)
