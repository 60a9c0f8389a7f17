-- Amendments: edits, reactions, and deletions of messages, which take the message and its edits out of the log.

local MOST_CROSSING = 1000 -- entries that are looked at in one call

-- Entries leave a log: "position field\n" each. The fields leave the dedupe index, unless they are another entry's by now.
-- What is behind them names them as `prev` all the same: whoever reads is told that they were removed.
local function remove(state, log, gone)
  for position, field in string.gmatch(gone, '(%S+) ([^\n]*)\n') do
    redis.call('XDEL', log, position)
    if redis.call('HGET', state, field) == position then redis.call('HDEL', state, field) end
  end
end

-- Edits that came into the log since it was read up to `seen`; `heads`: one of these they begin with.
local function remove_crossing(state, log, seen, heads)
  for _, entry in ipairs(redis.call('XRANGE', log, '(' .. seen, '+', 'COUNT', MOST_CROSSING)) do
    for _, head in ipairs(heads) do
      if string.sub(entry[2][4], 1, #head) == head then
        remove(state, log, entry[1] .. ' ' .. dedupe_fields(entry[2][4])[1] .. '\n')
      end
    end
  end
end

-- One amendment into one log. ARGV as of append_amendment; `seen`, `gone`: of this log.
local function amend(state, log, args, seen, gone, append_it)
  local known = redis.call('HMGET', state, args[1], 'x:' .. args[4])
  if known[2] and not known[1] then return DELETED end
  local result = append_it()
  local is_new = result[2] and result[1] ~= 'refused'
  if seen and is_new then
    remove(state, log, gone)
    remove_crossing(state, log, seen, { args[6], args[7] })
    redis.call('HSET', state, 'x:' .. args[4], result[1])
  end
  return result
end

-- append_amendment: an entry that changes a message. After a deletion there are no others.
-- KEYS  1 state  2 log, of one user; or, as with `append_both`, of the recipient, and  3 state  4 log, of the sender
-- ARGV  1 dedupe field  2 content  3 origin  4 dedupe field of the message  5 as for append, or empty
--       of a deletion as well: 6 what edits of the message begin with  7 the same of bots
--       8 the (first) log was read up to there  9 what goes: "position field\n" ... (without a field: the message itself)
--       10, 11 the same of the sender's log
-- Returns what `append` or `append_both` returns; {'deleted'}: the message is.
-- Atomic: nobody can read the deletion and, behind it, what was deleted; nor is there an edit of what is deleted.
local function append_amendment(keys, args)
  local to_both, again = keys[3] ~= nil, args[5] ~= '' and args[5]
  local received = amend(keys[1], keys[2], args, args[8], args[9], function()
    return append_to(keys[1], keys[2], args[1], args[2], to_both and '-' or args[3], again)
  end)
  if REFUSALS[received] or not to_both then return received end
  return amend(keys[3], keys[4], args, args[10], args[11], function()
    return append_to(keys[3], keys[4], args[1], args[2], args[3], again)
  end)
end

-- append_group_amendment: the same in a group's log.
-- KEYS  1 state  2 log  3 members
-- ARGV  1 sender  2 ... as for append_amendment, of one log   Returns as append_group; {'deleted'}.
local function append_group_amendment(keys, args)
  local sender = table.remove(args, 1)
  return amend(keys[1], keys[2], args, args[8], args[9], function()
    return append_group(keys, { args[1], args[2], args[3], sender, args[5] })
  end)
end

redis.register_function('im_append_amendment_2', append_amendment) -- refused where the store is full
redis.register_function('im_append_group_amendment_2', append_group_amendment)
