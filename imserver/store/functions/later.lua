-- Messages that are to be said later.
--
-- What of a user waits ({T}w:<user>, a hash):
--   <device>/<id>   four lines: "state when number"; "code text", why it was refused, or empty; what saying it takes
--                   (imserver/store/later_calls.py); content
--                     state   w  waits
--                             s  is being said, perhaps by a worker that has died: nothing can stop it any more
--                             f  was refused when it was due; stays until it is removed
--                             c  was cancelled: until `when` a `schedule` that comes late does not bring it back
--                     when    unix seconds
--                     number  those of one user that are due at one time are said in the order of their numbers
--   =n              the newest number
--
-- What of a partition waits ({T}due, a sorted set): "<number> <user> <device>/<id>" -> when; of those in state w, s or c.
--
-- The agenda ({0}agenda, a sorted set): partition -> when somebody is to look what is due there; "all" is every partition.
-- A time with a fraction is a claim: the end of the time that whoever looks there now has for it. No two are the same.
-- It lies in another slot. A message is in its partition before the agenda says so; and the look at "all", now and then,
-- finds what the agenda does not know.

local function due_member(number, user, field)
  return string.format('%012d %s %s', number, user, field)
end

local function read_waiting(waiting, field)
  local record = redis.call('HGET', waiting, field)
  if record then return string.match(record, '^(%l) (%d+) (%d+)\n(.*)$') end
end

-- What a member of `due` stands for: not what was scheduled under the same id since.
local function read_due(waiting, field, member)
  local state, when, number, rest = read_waiting(waiting, field)
  if state and tonumber(number) == tonumber(string.match(member, '^%d+')) then return state, when, number, rest end
end

local function write_waiting(waiting, field, state, when, number, rest)
  redis.call('HSET', waiting, field, state .. ' ' .. when .. ' ' .. number .. '\n' .. rest)
end

local function drop_waiting(waiting, field)
  redis.call('HDEL', waiting, field)
  if redis.call('HLEN', waiting) == 1 then redis.call('DEL', waiting) end -- only the number is left
end

-- schedule.
-- KEYS  1 state  2 waiting  3 due
-- ARGV  1 "device/id"  2 when  3 what saying it takes  4 content  5 most messages  6 most bytes of them
-- Returns {'ok', when}, for a repeat (also of what has been said) as well; {'not-found'} {'full'} {'cancelled'}.
-- Atomic: what is in the hash is due, and is there once.
local function schedule(keys, args)
  local field, user = args[1], user_of(keys[1])
  local known = redis.call('HMGET', keys[1], 'last', user .. '/' .. field)
  if not known[1] then return NOT_FOUND end
  local state, when = read_waiting(keys[2], field)
  if state == 'c' then return { 'cancelled' } end
  if state or known[2] then return { 'ok', when or args[2] } end
  local count, bytes = 1, #args[4]
  for _, record in ipairs(redis.call('HVALS', keys[2])) do
    if string.find(record, '^[wsf]') then
      count = count + 1
      bytes = bytes + #record
    end
  end
  if count > tonumber(args[5]) or bytes > tonumber(args[6]) then return { 'full' } end
  local number = redis.call('HINCRBY', keys[2], '=n', 1)
  write_waiting(keys[2], field, 'w', args[2], number, '\n' .. args[3] .. '\n' .. args[4])
  redis.call('ZADD', keys[3], args[2], due_member(number, user, field))
  return { 'ok', args[2] }
end

-- unschedule.
-- KEYS  1 waiting  2 due   ARGV  1 user  2 "device/id"  3 until when a late `schedule` is refused (unix seconds)
-- Returns {'ok'}, for a repeat as well; {'not-found'}; {'begun'}: it is being said.
-- Atomic, as `begin_saying` is: one of the two comes first.
local function unschedule(keys, args)
  local state, _, number = read_waiting(keys[1], args[2])
  if not state then return NOT_FOUND end
  if state == 's' then return { 'begun' } end
  if state ~= 'c' then
    write_waiting(keys[1], args[2], 'c', args[3], number, '\n\n')
    redis.call('ZADD', keys[2], args[3], due_member(number, args[1], args[2]))
  end
  return { 'ok' }
end

-- begin_saying: from now on nothing stops the message.
-- KEYS  1 waiting  2 due  3 account   ARGV  1 member of due  2 "device/id"  3 now (unix seconds)
-- Returns {what saying it takes and content, '1' if the account is disabled}; {}: there is nothing to be said.
local function begin_saying(keys, args)
  local state, when, number, rest = read_due(keys[1], args[2], args[1])
  local is_due = state and tonumber(when) <= tonumber(args[3])
  if is_due and (state == 'w' or state == 's') then
    if state == 'w' then write_waiting(keys[1], args[2], 's', when, number, rest) end
    return { string.sub(rest, 2), redis.call('HGET', keys[3], 'disabled') or '' }
  end
  if is_due and state == 'c' then drop_waiting(keys[1], args[2]) end
  if is_due or not state then redis.call('ZREM', keys[2], args[1]) end
  return {}
end

-- end_saying: the message has been said, or was refused.
-- KEYS  1 waiting  2 due   ARGV  1 member of due  2 "device/id"  3 "code text", or empty: said   Returns 1.
local function end_saying(keys, args)
  local state, when, number, rest = read_due(keys[1], args[2], args[1])
  if state == 's' and args[3] == '' then
    drop_waiting(keys[1], args[2])
  elseif state == 's' then
    write_waiting(keys[1], args[2], 'f', when, number, args[3] .. rest)
  end
  if state == 's' or not state then redis.call('ZREM', keys[2], args[1]) end
  return 1
end

-- Nothing waits any more: the account is being erased.
local function forget_waiting(state, waiting, due)
  for _, field in ipairs(redis.call('HKEYS', waiting)) do
    local _, _, number = read_waiting(waiting, field)
    if number then redis.call('ZREM', due, due_member(number, user_of(state), field)) end
  end
  redis.call('DEL', waiting)
end

-- take_due: the caller is given partitions to look at, until its claim ends.
-- KEYS  1 agenda   ARGV  1 now (unix seconds)  2 end of the claim, with a fraction  3 most   Returns the partitions, or "all".
local function take_due(keys, args)
  local taken = redis.call('ZRANGEBYSCORE', keys[1], '-inf', args[1], 'LIMIT', 0, args[3])
  if #taken == 0 and not redis.call('ZSCORE', keys[1], 'all') then taken = { 'all' } end
  for _, name in ipairs(taken) do redis.call('ZADD', keys[1], args[2], name) end
  return taken
end

-- look_at: something is due in a partition at that time.
-- KEYS  1 agenda   ARGV  1 partition  2 when   Returns 1.
-- Whoever looks there now may have looked before the message was there: the fraction goes, so that its claim is not its own
-- any more, and its `looked` takes nothing from the agenda.
local function look_at(keys, args)
  local known = tonumber(redis.call('ZSCORE', keys[1], args[1]) or nil)
  if not known or known > tonumber(args[2]) then
    redis.call('ZADD', keys[1], args[2], args[1])
  elseif known % 1 ~= 0 then
    redis.call('ZADD', keys[1], math.floor(known), args[1])
  end
  return 1
end

-- looked: all that was due in a partition is said.
-- KEYS  1 agenda   ARGV  1 partition  2 end of the claim  3 when to look next, or empty   Returns 1.
-- Nothing changes where the claim is not there any more: somebody else looks now, or is to look.
local function looked(keys, args)
  if tonumber(redis.call('ZSCORE', keys[1], args[1]) or nil) ~= tonumber(args[2]) then return 1 end
  if args[3] == '' then
    redis.call('ZREM', keys[1], args[1])
  else
    redis.call('ZADD', keys[1], args[3], args[1])
  end
  return 1
end

redis.register_function('im_schedule_2', schedule) -- refused where the store is full
register_always('im_unschedule_2', unschedule)
register_always('im_begin_saying_2', begin_saying)
register_always('im_end_saying_2', end_saying)
register_always('im_take_due_2', take_due)
register_always('im_look_at_2', look_at)
register_always('im_looked_2', looked)
