-- Presence: what a user shows, and what contacts were told of it.
--
-- `told` (a field of the state hash): "show since place news status". show: online, away, busy, offline; since: unix seconds,
-- - where nobody may know; place: of the session that it comes from, - where it is offline; news: 1 until contacts have been
-- told: whoever should have told them may have died. They are told what stands here, always, so all of them hear the same in
-- the same order.
--
-- What a device shows is kept until it says otherwise, also while it is away: who is invisible stays so over a lost
-- connection.

local function read_told(text)
  if not text then return { show = 'offline', since = '-', place = '-', news = '0', status = '' } end
  local show, since, place, news, status = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (.*)$')
  return { show = show, since = since, place = place, news = news, status = status }
end

local function write_told(state, told)
  local text = told.show .. ' ' .. told.since .. ' ' .. told.place .. ' ' .. told.news .. ' ' .. told.status
  redis.call('HSET', state, 'told', text)
  return text
end

-- What the connected devices show together: the most reachable of them; of equal ones the last that has logged in.
local function aggregate(state, on, ranks)
  local places, fields, best = {}, {}, { show = 'offline', place = '-', status = '' }
  for place in string.gmatch(on, '[^ ]+') do
    places[#places + 1] = place
    fields[#fields + 1] = 'h:' .. device_at(place)
  end
  if #places == 0 then return best end
  for index, shown in ipairs(redis.call('HMGET', state, unpack(fields))) do
    local show, status = string.match(shown or 'online ', '^(%S+) (.*)$')
    if ranks[show] and ranks[show] <= ranks[best.show] then
      best = { show = show, place = places[index], status = status }
    end
  end
  return best
end

local function ranks_of(order)
  local ranks, count = {}, 0
  for show in string.gmatch(order, '[^ ]+') do
    count = count + 1
    ranks[show] = count
  end
  return ranks
end

local function is_connected(on, device)
  return string.find(' ' .. on, ' ' .. device .. '=', 1, true) ~= nil
end

-- settle: what contacts are to be told follows what the devices show; unless a device that was connected shortly ago stands
-- for more: then it has the time to come back, and whoever counts that time settles when it is over.
-- KEYS  1 state  2 roster
-- ARGV  1 order of shows, the most reachable first; "offline" is the last
--       2 who is not waited for any more: a place (the device may have been elsewhere since), a device that has logged out,
--         "=node" (all of a node), or empty  3 since how long it has gone (seconds)
--       4 a place that shows something new, or empty  5 show  6 status
-- Returns {told, 1 if contacts are to be told}; {} where there is nobody to be told.
-- Atomic, since two devices that change at once must not each tell of half.
local function settle(keys, args)
  local known = redis.call('HMGET', keys[1], 'on', 'told')
  local on = known[1] or ''
  if args[4] ~= '' and string.find(' ' .. on .. ' ', ' ' .. args[4] .. ' ', 1, true) then
    local shown, field = args[5] .. ' ' .. args[6], 'h:' .. device_at(args[4])
    if shown == 'online ' then redis.call('HDEL', keys[1], field) else redis.call('HSET', keys[1], field, shown) end
  end
  if redis.call('EXISTS', keys[2]) == 0 then return {} end
  local ranks, told = ranks_of(args[1]), read_told(known[2])
  local now = aggregate(keys[1], on, ranks)
  local device, node = device_at(told.place), node_at(told.place) or ''
  local is_awaited = told.place ~= '-' and not is_connected(on, device) and args[2] ~= told.place and args[2] ~= device
    and args[2] ~= '=' .. node
  if is_awaited and ranks[now.show] > ranks[told.show] then return { known[2], tonumber(told.news) } end
  if now.show == told.show and now.status == told.status then
    if now.place ~= told.place then
      told.place = now.place
      write_told(keys[1], told)
    end
    return { known[2] or '', tonumber(told.news) }
  end
  now.news, now.since = '1', told.since
  if now.show ~= told.show then now.since = number(redis.call('TIME')[1] - args[3]) end
  if redis.call('HGET', keys[2], '=seen') == 'nobody' then now.since = '-' end
  return { write_told(keys[1], now), 1 }
end

-- tell: publishes what stands in `told`, as it stands now, to nodes that host contacts.
-- KEYS  1 state
-- ARGV  1 "all": these are all contacts that there are to be told   "some"   "offline": they hear that, whatever stands there
--       2 node  3 users, "a,b,c"   4 node  5 users ...
-- Returns 1.
local function tell(keys, args)
  local prefix, user = owner(keys[1])
  local told = read_told(args[1] ~= 'offline' and redis.call('HGET', keys[1], 'told'))
  for index = 2, #args, 2 do
    local what = ' ' .. told.show .. ' ' .. told.since .. ' - 0 ' .. told.status
    redis.pcall('SPUBLISH', prefix .. args[index], 's ' .. user .. ' ' .. args[index + 1] .. what)
  end
  if args[1] == 'all' and told.news == '1' then
    told.news = '0'
    write_told(keys[1], told)
  end
  return 1
end

-- whereabouts: of many users, all in one slot, or no cluster: where they are, and what contacts were told.
-- KEYS  state, state, ...   ARGV  1 "told", or empty: it is not wanted, which saves a third
-- Returns n, on, told, n, on, told, ...: of those only about whom there is something to say; n: the number of the key.
local function whereabouts(keys, args)
  local answer, size, call, wanted = {}, 0, redis.call, args[1] == 'told'
  for index = 1, #keys do
    local on, told = nil, false
    if wanted then
      local known = call('HMGET', keys[index], 'on', 'told')
      on, told = known[1], known[2]
    else
      on = call('HGET', keys[index], 'on')
    end
    if told or (on and on ~= '') then
      answer[size + 1], answer[size + 2], answer[size + 3] = index, on, told
      size = size + 3
    end
  end
  return answer
end

-- typing: tells the sessions of a contact, and nobody else, that somebody types.
-- KEYS  1 state  2 roster, of the one who is told   ARGV  1 who types  2 "1" or "0"
-- Returns 1. Strangers, and who is blocked, are dropped without a word.
local function typing(keys, args)
  local record = redis.call('HGET', keys[2], args[1])
  local on = redis.call('HGET', keys[1], 'on')
  if record and string.sub(record, 1, 4) == '1100' and on and on ~= '' then
    local prefix, user = owner(keys[1])
    publish(on, prefix, 't ' .. user .. ' ' .. args[1] .. ' ' .. args[2])
  end
  return 1
end

register_always('im_settle_2', settle)
register_always('im_tell_2', tell)
redis.register_function{ function_name = 'im_whereabouts_2', callback = whereabouts, flags = { 'no-writes', 'allow-oom' } }
redis.register_function{ function_name = 'im_typing_2', callback = typing, flags = { 'allow-oom' } }
