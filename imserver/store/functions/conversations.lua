-- Conversations: how far a user, and the partner, have read; what the partner's devices have kept; what is muted, pinned,
-- archived. All of it is merged, not logged: marks are maxima, a switch has a stamp and the newer one wins. So whatever is
-- done twice, or comes late, changes nothing.
--
-- The conversations of a user ({T}c:<user>, a hash):
--   <partner>   record, six lines, each of which may be empty: "read\nread_by\ndelivered\nmuted\npinned\narchived"
--                 read      position in the user's own log (in the group's, where the partner is one)
--                 read_by, delivered   "upto device id": the newest message of this user that the partner has read, that one
--                           of the partner's devices has kept; upto: a position in the *partner's* log, which orders them
--                 muted, pinned, archived   "value stamp": 1 or 0; archived: a position in the log that `read` is of, or 0
--   =v, =low    as of a roster (contacts.lua): the versions ({T}d:<user>, a sorted set) have the same form
--
-- In the state hash of a user:
--   kept        the senders have been told of what was kept up to there (so far as they are to be told)

-- A record takes 100 to 200 bytes; at the most, those that have changed least lately are forgotten, with what was read.
local MOST_CONVERSATIONS, FORGOTTEN_AT_ONCE = 10000, 500
local OWN_LOOK_BACK = 200 -- entries in which the partner's newest message is looked for

local READ, READ_BY, DELIVERED, SWITCHES = 1, 2, 3, { muted = 4, pinned = 5, archived = 6 }

-- The record of a conversation, and the version of all of them, if there is one yet.
local function read_conversation(conversations, partner)
  local known = redis.call('HMGET', conversations, partner, '=v')
  if not known[1] then return { '', '', '', '', '', '' }, known[2] end
  return { string.match(known[1], '^(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.*)$') }, known[2]
end

local function forget_conversations(conversations, changes)
  for _, partner in ipairs(redis.call('ZRANGE', changes, 0, FORGOTTEN_AT_ONCE - 1)) do
    redis.call('HSET', conversations, '=low', redis.call('ZSCORE', changes, partner))
    redis.call('HDEL', conversations, partner)
    redis.call('ZREM', changes, partner)
  end
end

-- A conversation is this from now on. `known`: the version so far; the first one is the time, so that none comes twice where
-- an account is made anew.
local function write_conversation(conversations, changes, partner, record, known)
  local version = number(known and known + 1 or now_ms())
  redis.call('HSET', conversations, partner, table.concat(record, '\n'), '=v', version)
  if not known then redis.call('HSET', conversations, '=low', number(version - 1)) end
  if redis.call('ZADD', changes, version, partner) == 1 and redis.call('ZCARD', changes) > MOST_CONVERSATIONS then
    forget_conversations(conversations, changes)
  end
end

-- Tells all sessions of the user but the one at `origin`.
local function tell_devices(state, on, what)
  if on and on ~= '' then
    local prefix, user = owner(state)
    publish(on, prefix, 'm ' .. user .. ' ' .. what)
  end
end

-- Sender, device and id of a message, from its content as a log keeps it (imserver/store/stored.py); nil for all else.
-- Before "from" may stand that it is a bot.
local HEAD = '^{"ev":"msg",.-"from":"([^"]+)","device":"([^"]+)","to":"[^"]+","id":"(.-)","body":'
local function said_by(content)
  local sender, device, id = string.match(content, HEAD)
  return sender, device, id and string.gsub(id, '\\(.)', '%1')
end

-- The newest message of the partner up to a position: "device id", or nil where none is near.
local function newest_of(log, partner, upto)
  local found = redis.call('XREVRANGE', log, upto, '-', 'COUNT', 1)
  for _ = 1, 2 do
    for _, entry in ipairs(found) do
      local sender, device, id = said_by(entry[2][4])
      if sender == partner then return device .. ' ' .. id end
    end
    found = redis.call('XREVRANGE', log, upto, '-', 'COUNT', OWN_LOOK_BACK)
  end
end

-- read: the user has read a conversation up to a position.
-- KEYS  1 state  2 log  3 conversations  4 versions
-- ARGV  1 partner  2 position in the user's log, or the group's  3 place of the session that says so
-- Returns {'ok', position as it is now}, and where the partner is to be told, also: "device id" of what was read; {'not-found'}.
local function read(keys, args)
  local partner, upto = args[1], args[2]
  local known = redis.call('HMGET', keys[1], 'last', 'on', 'w:' .. partner)
  if not known[1] then return NOT_FOUND end
  local is_group = string.byte(partner) == 35 -- 35: #
  if not is_group and newer(upto, known[1]) then upto = known[1] end
  local record, version = read_conversation(keys[3], partner)
  local is_news = record[READ] == '' or newer(upto, record[READ])
  if not is_news then upto = record[READ] end
  local message = not is_group and known[3] ~= '-' and newest_of(keys[2], partner, upto) or nil
  if is_news then
    record[READ] = upto
    write_conversation(keys[3], keys[4], partner, record, version)
    local what = args[3] .. ' read ' .. user_of(keys[1]) .. ' ' .. partner .. ' ' .. upto
    tell_devices(keys[1], known[2], what .. (message and ' ' .. message or ''))
  end
  return { 'ok', upto, message }
end

-- mark: a partner has read, or its device has kept, a message of this user.
-- KEYS  1 state  2 conversations  3 versions
-- ARGV  1 "read" or "delivered"  2 partner  3 position in the partner's log  4 "device id" of the message
-- Returns 1. Nothing changes where this user blocks the partner, or has deleted its account.
local function mark(keys, args)
  local partner, upto = args[2], args[3]
  local known = redis.call('HMGET', keys[1], 'last', 'on', 'w:' .. partner)
  if not known[1] or known[3] == '-' then return 1 end
  local record, version = read_conversation(keys[2], partner)
  -- What was read was delivered: that needs no mark of its own.
  for line = READ_BY, args[1] == 'read' and READ_BY or DELIVERED do
    if record[line] ~= '' and not newer(upto, string.match(record[line], '^%S+')) then return 1 end
  end
  record[args[1] == 'read' and READ_BY or DELIVERED] = upto .. ' ' .. args[4]
  write_conversation(keys[2], keys[3], partner, record, version)
  local what = '- ' .. args[1] .. ' ' .. partner .. ' ' .. user_of(keys[1]) .. ' ' .. upto .. ' ' .. args[4]
  tell_devices(keys[1], known[2], what)
  return 1
end

-- arrange: a conversation is muted, pinned, archived, or not any more.
-- KEYS  1 state  2 conversations  3 versions
-- ARGV  1 partner  2 muted  3 pinned (1, 0, or - to leave it)  4 archived: position up to which, 0, or -; "now": the log's end
--       5 stamp (ms): newer than the record's, where this is done for the first time  6 place of the session that says so
-- Returns {'ok', muted, pinned, archived}, as it is now; {'not-found'}.
local function arrange(keys, args)
  local known = redis.call('HMGET', keys[1], 'last', 'on')
  if not known[1] then return NOT_FOUND end
  local record, version = read_conversation(keys[2], args[1])
  local is_news, now = false, {}
  for index, line in ipairs({ SWITCHES.muted, SWITCHES.pinned, SWITCHES.archived }) do
    local value, stamp = string.match(record[line], '^(%S+) (%d+)$')
    local wanted = args[index + 1]
    if wanted ~= '-' and tonumber(args[5]) > tonumber(stamp or 0) then
      value = wanted == 'now' and known[1] or wanted
      record[line], is_news = value .. ' ' .. args[5], true
    end
    now[index] = value or '0'
  end
  if is_news then
    write_conversation(keys[2], keys[3], args[1], record, version)
    tell_devices(keys[1], known[2], args[6] .. ' arranged ' .. args[1] .. ' ' .. table.concat(now, ' '))
  end
  return { 'ok', unpack(now) }
end

-- What senders have not been told of yet: {} where that is nothing; else {position up to which this was looked for, and for
-- each sender: its name, position, "device id" of its newest message up to there}. `told`: up to where they have been.
local function unheard(keys, upto, most, told, guard)
  if not newer(upto, told or '0-0') then return {} end
  local entries = redis.call('XRANGE', keys[2], '(' .. (told or '0-0'), upto, 'COUNT', most)
  if #entries == 0 then return {} end
  local seen, answer = { [user_of(keys[1])] = true }, { entries[#entries][1] }
  for index = #entries, 1, -1 do
    local sender, device, id = said_by(entries[index][2][4])
    if sender and not seen[sender] then
      seen[sender] = true
      if not (guard and redis.call('HGET', keys[1], 'w:' .. sender) == '-') then -- who is blocked hears nothing
        answer[#answer + 1] = sender
        answer[#answer + 1] = entries[index][1]
        answer[#answer + 1] = device .. ' ' .. id
      end
    end
  end
  if #answer == 1 then
    redis.call('HSET', keys[1], 'kept', answer[1])
    if #entries < tonumber(most) then return {} end
  end
  return answer
end

-- The same, of senders who are named (`args`, from `first` on, as in the answer), instead of looking into the log: all of
-- whom there is something between the watermark, or before it, and `upto`.
local function unheard_of(state, args, first, upto, told, guard)
  local answer, user = { upto }, user_of(state)
  for index = first, #args, 3 do
    local sender = args[index]
    local is_blocked = guard and redis.call('HGET', state, 'w:' .. sender) == '-'
    if sender ~= user and newer(args[index + 1], told) and not is_blocked then
      answer[#answer + 1] = sender
      answer[#answer + 1] = args[index + 1]
      answer[#answer + 1] = args[index + 2]
    end
  end
  if #answer > 1 then return answer end
  redis.call('HSET', state, 'kept', upto)
  return {}
end

-- keep: as `ack`; and what senders are to be told of it.
-- KEYS  1 state  2 log
-- ARGV  1 device  2 position  3 most entries to look at
--       4 if given: whose messages stand behind this position  5 and up to this one (not after 2)  is named; for each:
--       6 name  7 position  8 "device id" ...
-- Returns what `unheard` does.
local function keep(keys, args)
  local cursor, upto, since = 'c:' .. args[1], args[2], args[4]
  local known = redis.call('HMGET', keys[1], 'last', cursor, 'kept', 'guard')
  local last, told = known[1], known[3]
  if moves_to(upto, known[2], last) then redis.call('HSET', keys[1], cursor, upto) end
  if not (since and told and last) or newer(since, told) or newer(upto, last) then
    return unheard(keys, upto, args[3], told, known[4])
  end
  if not newer(args[5], told) then return {} end
  return unheard_of(keys[1], args, 6, args[5], told, known[4])
end

-- heard: the senders have been told of what was kept up to a position; what comes next?
-- KEYS  1 state  2 log   ARGV  1 position  2 position that was kept  3 most entries to look at   Returns what `unheard` does.
local function heard(keys, args)
  local told, known = args[1], redis.call('HMGET', keys[1], 'last', 'kept', 'guard')
  if not known[1] then return {} end
  if known[2] and newer(known[2], told) then
    told = known[2]
  else
    redis.call('HSET', keys[1], 'kept', told)
  end
  return unheard(keys, args[2], args[3], told, known[3])
end

register_always('im_read_2', read)
register_always('im_mark_2', mark)
register_always('im_arrange_2', arrange)
register_always('im_keep_2', keep)
register_always('im_heard_2', heard)
