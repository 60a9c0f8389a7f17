-- Deletions of messages. (Edits and reactions are entries like others: they only add.)

-- Entries leave a log. Those behind them name them as `prev` all the same: whoever reads is told that they were removed.
local function remove(log, positions)
  local gone = {}
  for position in string.gmatch(positions, '[^ ]+') do gone[#gone + 1] = position end
  if #gone > 0 then redis.call('XDEL', log, unpack(gone)) end
end

-- append_deletion: the entry that says that a message is deleted; the message itself, and its edits, leave the log.
-- KEYS  1 state  2 log, of one user; or, as with `append_both`, of the recipient, and  3 state  4 log, of the sender
-- ARGV  1 dedupe field  2 content  3 origin  4 positions in the (first) log that go  5 in the sender's  6 as for append
-- Returns what `append` or `append_both` returns.
-- Atomic: nobody can read the deletion and, behind it, what was deleted.
local function append_deletion(keys, args)
  local has_both = keys[3] ~= nil
  local result = (has_both and append_both or append)(keys, { args[1], args[2], args[3], args[6] })
  if REFUSALS[result] then return result end
  remove(keys[2], args[4])
  if has_both then remove(keys[4], args[5]) end
  return result
end

-- append_group_deletion: the same in a group's log.
-- KEYS  1 state  2 log  3 members
-- ARGV  1 dedupe field  2 content  3 origin  4 sender  5 positions that go  6 as for append   Returns as append_group.
local function append_group_deletion(keys, args)
  local result = append_group(keys, { args[1], args[2], args[3], args[4], args[6] })
  if not REFUSALS[result] and result[1] ~= 'refused' then remove(keys[2], args[5]) end
  return result
end

redis.register_function('im_append_deletion_2', append_deletion) -- refused where the store is full
redis.register_function('im_append_group_deletion_2', append_group_deletion)
