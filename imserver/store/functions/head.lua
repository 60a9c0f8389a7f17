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
--   s:<device>              "logins last generations": how often the device has logged in, when it did last (unix seconds), and
--                           the generations of the token that it got then; `first:` in the account is there as long
--   l:<device>              when its connection ended last (unix seconds)
--   low                     entries before this position have left the dedupe index
--   cut                     entries before this position have left the log because of its bounds
--   <user>/<device>/<id>    dedupe: position of the entry with this sender, device and client message id
--   x:<user>/<device>/<id>  position of the deletion of this message; it leaves with the deletion's dedupe field
--   guard                   there only where not everybody may write: "blocks", or "contacts" (nobody else may); then
--   w:<user>                "-": may not write; "+", only with "contacts": may. Both follow from the roster (contacts.lua)
--   told                    presence as contacts were told it (presence.lua); only of users with a roster
--   h:<device>              what the device shows: "show status"; without it: online
--   kept                    senders have been told of what devices have kept up to there (conversations.lua)
--
-- The roster of a user ({T}k:<user>, a hash) and its versions ({T}v:<user>): contacts.lua. They are there only of users who
-- have, or had, contacts.
--
-- Hosted users ({T}h:<node>, a set): the users of a partition with a place at the node, and those who had one and whose
-- contacts have not been told yet that it is gone. It may have more; never fewer: a dead node is cleared by it.
--
-- Entries that expire ({T}e:<user>, a sorted set): log.lua, trim. It is there only where there are any.
--
-- An entry of the log: p = position of the entry before it, e = content.

local NOT_FOUND, BLOCKED, SHUT, DELETED = { 'not-found' }, { 'blocked' }, { 'shut' }, { 'deleted' }
local REFUSALS = { [NOT_FOUND] = true, [BLOCKED] = true, [SHUT] = true, [DELETED] = true }

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

-- What adds messages and accounts is refused where the store is full. All the rest is not: it keeps sessions alive, or makes
-- room.
local function register_always(name, callback)
  redis.register_function{ function_name = name, callback = callback, flags = { 'allow-oom' } }
end
