-- Epochs of a shard (imserver/store/epochs.py).

-- epoch: which life of the shard's data this is, as far as it concerns what was acknowledged: a replica that takes its
-- primary's place begins another one. The record is copied with the data, so after a promotion it still names the old
-- primary: that is how the first caller notices, and the record lets all later ones know.
-- KEYS  1 epoch (hash: `known` replication id, `id` of the epoch, `began`: ms, this instance's clock)
-- ARGV  1 master_replid  2 "promoted": this instance goes on from another one's data; "same": from its own
-- Returns {id of the epoch, ms since it began}. Atomic: of two callers who notice at once, one begins the epoch.
local function epoch(keys, args)
  local now, record = now_ms(), redis.call('HMGET', keys[1], 'known', 'id', 'began')
  local known, id, began = record[1], record[2], tonumber(record[3] or 0)
  if known ~= args[1] then
    if args[2] == 'promoted' or not id then
      id, began = args[1], args[2] == 'promoted' and now or 0
    end
    redis.call('HSET', keys[1], 'known', args[1], 'id', id, 'began', ms(began))
  end
  return { id, ms(math.max(0, now - began)) }
end

register_always('im_epoch_2', epoch)
