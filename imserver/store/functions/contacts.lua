-- Contacts and blocks: what two users want of each other, as each of them knows it.
--
-- A relation is four switches: the owner of the roster wants it; the other one wants it; the owner blocks; the other one
-- blocks. Both sides have all four (the other side's in the other order), each with a stamp, which orders what was done to
-- it. What somebody does is a few switches set with one new stamp, on both sides; a newer stamp wins, and of two equal ones
-- "off" does. So both sides come to the same, in whatever order and however often they are told.
--
-- The roster of a user ({T}k:<user>, a hash):
--   <other>   record: "switches stamp stamp stamp stamp\nnote\ndescription"; switches: four of 0 and 1, and a fifth that
--             says whether the owner ever wanted it; note and description: pieces of JSON, or empty. A contact that is gone
--             leaves its record for a while, for the stamps.
--   =v        version: grows with each change; every record has one in the sorted set of versions ({T}v:<user>)
--   =low      changes up to this version may be forgotten
--   =count    contacts (also asked, asking) and blocked ones      =blocks  blocked ones      =gone  those that were
--   =asks     "hour count": how many were asked in this hour
--   =write    "contacts" where nobody else may write              =seen    who may know since when: see presence.lua

local STATES = { ['00'] = 'none', ['10'] = 'asked', ['01'] = 'asking', ['11'] = 'mutual' }
local MOST_GONE, PAGE = 500, 200

local function read_record(text)
  if not text then return { '0', '0', '0', '0', known = '0', stamps = { 0, 0, 0, 0 }, note = '', description = '' } end
  local a, b, c, d, known, e, f, g, h, note, description =
    string.match(text, '^(%d)(%d)(%d)(%d)(%d) (%d+) (%d+) (%d+) (%d+)\n(.-)\n(.*)$')
  local stamps = { tonumber(e), tonumber(f), tonumber(g), tonumber(h) }
  return { a, b, c, d, known = known, stamps = stamps, note = note, description = description }
end

local function number(value)
  return string.format('%.0f', value)
end

local function write_record(roster, other, record)
  local stamps = {}
  for index = 1, 4 do stamps[index] = number(record.stamps[index]) end
  local head = table.concat(record, '', 1, 4) .. record.known .. ' ' .. table.concat(stamps, ' ')
  redis.call('HSET', roster, other, head .. '\n' .. record.note .. '\n' .. record.description)
end

local function is_listed(record)
  return record[1] == '1' or record[2] == '1' or record[3] == '1'
end

-- Sets switches: "10--" is four of 0, 1 and - (left as it is). Returns whether any changed, whether any stamp did.
local function set_switches(record, switches, stamp)
  local is_changed, is_newer = false, false
  for index = 1, 4 do
    local to, known = string.sub(switches, index, index), record.stamps[index]
    if to ~= '-' and (stamp > known or (stamp == known and to == '0' and record[index] == '1')) then
      is_changed = is_changed or record[index] ~= to
      is_newer = true
      record[index], record.stamps[index] = to, stamp
    end
  end
  return is_changed, is_newer
end

-- Whether another user may write follows from its record, and stands where `append` looks anyway.
local function set_pass(state, other, record, write)
  local pass = record[3] == '1' and '-' or (write == 'contacts' and record[1] == '1' and record[2] == '1' and '+')
  if pass then redis.call('HSET', state, 'w:' .. other, pass) else redis.call('HDEL', state, 'w:' .. other) end
end

-- The guard follows from the roster, too.
local function set_guard(state, roster)
  local known = redis.call('HMGET', roster, '=write', '=blocks')
  local guard = known[1] == 'contacts' and 'contacts' or (tonumber(known[2] or 0) > 0 and 'blocks')
  if guard then redis.call('HSET', state, 'guard', guard) else redis.call('HDEL', state, 'guard') end
end

-- Forgets the older half of the records that are gone.
local function forget(roster, versions)
  local surplus, first, dropped = MOST_GONE / 2, 0, {}
  while #dropped < surplus do
    local page = redis.call('ZRANGE', versions, first, first + PAGE - 1, 'WITHSCORES')
    if #page == 0 then break end
    for index = 1, #page, 2 do
      if #dropped < surplus and not is_listed(read_record(redis.call('HGET', roster, page[index]))) then
        dropped[#dropped + 1] = page[index]
        redis.call('HSET', roster, '=low', page[index + 1])
      end
    end
    first = first + PAGE
  end
  for _, other in ipairs(dropped) do
    redis.call('HDEL', roster, other)
    redis.call('ZREM', versions, other)
  end
  redis.call('HINCRBY', roster, '=gone', -#dropped)
end

-- The next version; the first one is the time, so that none comes twice where an account is made anew.
local function next_version(roster, stamp)
  local known = redis.call('HGET', roster, '=v')
  if not known then redis.call('HSET', roster, '=low', number(stamp - 1)) end
  local version = number(math.max(stamp, (known or 0) + 1))
  redis.call('HSET', roster, '=v', version)
  return version
end

-- The record has changed in a way that its owner may know: a version, and an entry of the log.
local function note_change(keys, other, record, stamp)
  local version = next_version(keys[3], stamp)
  redis.call('ZADD', keys[4], version, other)
  local known = redis.call('HMGET', keys[1], 'last', 'on')
  local content = '{"ev":"contact","user":"' .. other .. '","state":"' .. STATES[record[1] .. record[2]] .. '"'
  if record[3] == '1' then content = content .. ',"blocked":true' end
  if record[2] == '1' and record[1] == '0' then
    if record.known == '0' then content = content .. ',"quiet":true' end
    if record.note ~= '' then content = content .. ',"note":' .. record.note end
  end
  if record.description ~= '' then content = content .. ',' .. record.description end
  put(keys[1], keys[2], known[1], known[2], content .. ',"version":' .. version .. '}', '-', 'last')
end

local function count_ask(roster, stamp)
  local hour, count = string.match(redis.call('HGET', roster, '=asks') or '0 0', '^(%d+) (%d+)$')
  local this_hour = number(math.floor(stamp / 3600000))
  redis.call('HSET', roster, '=asks', this_hour .. ' ' .. (hour == this_hour and count + 1 or 1))
end

-- Counts that depend on a record: before and after its change.
local function count_changes(keys, other, was_listed, was_blocked, record)
  local is_now, roster = is_listed(record), keys[3]
  if is_now ~= was_listed then
    redis.call('HINCRBY', roster, '=count', is_now and 1 or -1)
    if not is_now then
      if redis.call('HINCRBY', roster, '=gone', 1) > MOST_GONE then forget(roster, keys[4]) end
    elseif redis.call('ZSCORE', keys[4], other) then
      redis.call('HINCRBY', roster, '=gone', -1)
    end
  end
  if record[3] ~= was_blocked then
    redis.call('HINCRBY', roster, '=blocks', record[3] == '1' and 1 or -1)
    set_guard(keys[1], roster)
  end
end

-- relate: sets switches of one side of a relation.
-- KEYS  1 state  2 log  3 roster  4 versions
-- ARGV  1 the other user  2 switches (four of 0 1 -)  3 stamp (ms)  4 note of a request, a piece of JSON, or empty
--       5 most contacts; 0: no matter how many
-- Returns {'ok', switches}; {'not-found'} {'blocked'} (a request of somebody blocked) {'full'}: nothing is changed.
-- Atomic, since the record, the counts, the version and the entry that tells of it are one change.
local function relate(keys, args)
  local other, switches, stamp, roster = args[1], args[2], tonumber(args[3]), keys[3]
  if redis.call('HEXISTS', keys[1], 'last') == 0 then return NOT_FOUND end
  local text = redis.call('HGET', roster, other)
  local record = read_record(text)
  if string.sub(switches, 2, 2) == '1' and record[3] == '1' then return BLOCKED end
  local was_listed, was_blocked, wanted = is_listed(record), record[3], record[1]
  if not was_listed and string.find(string.sub(switches, 1, 3), '1', 1, true) and args[5] ~= '0' then
    if tonumber(redis.call('HGET', roster, '=count') or 0) >= tonumber(args[5]) then return { 'full' } end
  end
  local before = record[1] .. record[2] .. record[3]
  local is_changed, is_newer = set_switches(record, switches, stamp)
  if is_newer then -- also where nothing else is: an older step may be on its way here
    if is_changed then record.note = record[2] == '1' and record[1] == '0' and args[4] or '' end
    if record[1] == '1' then record.known = '1' end
    if not is_listed(record) then record.description = '' end
    write_record(roster, other, record)
  end
  if is_changed then
    count_changes(keys, other, was_listed, was_blocked, record)
    set_pass(keys[1], other, record, redis.call('HGET', roster, '=write'))
    if wanted == '0' and record[1] == '1' and record[2] == '0' then count_ask(roster, stamp) end
    if before ~= record[1] .. record[2] .. record[3] then note_change(keys, other, record, stamp) end
  end
  return { 'ok', table.concat(record, '', 1, 4) }
end

-- describe: what the owner calls a contact, and where it is sorted.
-- KEYS  as relate   ARGV  1 the other user  2 description: a piece of JSON  3 now (ms)   Returns {'ok'} {'not-found'}.
local function describe(keys, args)
  local text = redis.call('HGET', keys[3], args[1])
  local record = read_record(text)
  if not text or not is_listed(record) then return NOT_FOUND end
  if record.description ~= args[2] then
    record.description = args[2]
    write_record(keys[3], args[1], record)
    note_change(keys, args[1], record, tonumber(args[3]))
  end
  return { 'ok' }
end

-- roster: records in the order of their versions.
-- KEYS  1 roster  2 versions
-- ARGV  1 the version that the client has, 0: none  2 version of the last record on the page before, 0: there was none  3 most
-- Returns {version, 1 if it is everything, not what changed since, version of the last record on this page, other, record, ...}.
local function read_roster(keys, args)
  local known = redis.call('HMGET', keys[1], '=v', '=low')
  local version, since, behind = known[1] or '0', tonumber(args[1]), tonumber(args[2])
  local is_all = since == 0 or since < tonumber(known[2] or 0) or since > tonumber(version)
  if behind == 0 and not is_all then behind = since end
  local others = redis.call('ZRANGEBYSCORE', keys[2], '(' .. number(behind), '+inf', 'WITHSCORES', 'LIMIT', 0, args[3])
  local answer = { version, is_all and 1 or 0, others[#others] or number(behind) }
  for index = 1, #others, 2 do
    answer[#answer + 1] = others[index]
    answer[#answer + 1] = redis.call('HGET', keys[1], others[index])
  end
  return answer
end

-- privacy: who may write to a user, and who may know since when it has been away.
-- KEYS  1 state  2 roster   ARGV  1 "everyone", "contacts" or -  2 "everyone", "contacts", "nobody" or -
-- Returns {who may write, who may know}.
local function privacy(keys, args)
  if redis.call('HEXISTS', keys[1], 'last') == 1 then
    if args[1] ~= '-' then redis.call('HSET', keys[2], '=write', args[1]) end
    if args[2] ~= '-' then redis.call('HSET', keys[2], '=seen', args[2]) end
    if args[1] ~= '-' then
      set_guard(keys[1], keys[2])
      local all = redis.call('HGETALL', keys[2])
      for index = 1, #all, 2 do
        if string.sub(all[index], 1, 1) ~= '=' then set_pass(keys[1], all[index], read_record(all[index + 1]), args[1]) end
      end
    end
  end
  local known = redis.call('HMGET', keys[2], '=write', '=seen')
  return { known[1] or 'everyone', known[2] or 'contacts' }
end

redis.register_function('im_relate_2', relate) -- refused where the store is full
redis.register_function('im_describe_2', describe)
register_always('im_roster_2', read_roster)
register_always('im_privacy_2', privacy)
