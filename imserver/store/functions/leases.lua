-- Leases of nodes (imserver/store/leases.py).

-- Milliseconds since 1970, by the clock of this instance: leases are compared with no other.
local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function ms(number)
  return string.format('%.0f', number)
end

-- renew: a node takes its lease on this shard, or renews it.
-- KEYS  1 nodes  2 infos   ARGV  1 node  2 lease (ms)  3 what the node says of itself, or empty: it renews
-- Returns {'ok'}; {'dead'} where there is none to renew, or the node is being cleared: it was taken for dead.
local function renew(keys, args)
  local node, info = args[1], args[3]
  if info == '' and not redis.call('ZSCORE', keys[1], node) then return { 'dead' } end
  if info ~= '' and redis.call('ZSCORE', keys[1], 'dead ' .. node) then return { 'dead' } end
  redis.call('ZADD', keys[1], ms(now_ms() + args[2]), node)
  redis.call('HDEL', keys[2], 'suspect ' .. node)
  if info ~= '' then redis.call('HSET', keys[2], node, info) end
  return { 'ok' }
end

-- leave: a node gives its lease back.
-- KEYS  1 nodes  2 infos
-- ARGV  1 node  2 if not 0: it still owes contacts the news that users are gone; in so long (ms) another node clears it
-- Returns 1.
local function leave(keys, args)
  redis.call('ZREM', keys[1], args[1])
  redis.call('HDEL', keys[2], args[1])
  if args[2] ~= '0' then redis.call('ZADD', keys[1], ms(now_ms() + args[2]), 'dead ' .. args[1]) end
  return 1
end

-- expect: users have come from another shard, in a cluster, and with them sessions of its nodes. Each of these is given a
-- lease, as if it had taken one now, unless it has one; a node that is dead there is dead here. Atomic, since a node may
-- take its lease at the same moment.
-- KEYS  1 nodes  2 infos   ARGV  1 lease (ms)  2... nodes of the other shard, or "dead <node>"   Returns 1.
local function expect(keys, args)
  local now = now_ms()
  for number = 2, #args do
    local node, is_dead = string.gsub(args[number], '^dead ', '')
    local is_dead_here = redis.call('ZSCORE', keys[1], 'dead ' .. node)
    if is_dead == 1 and not is_dead_here then
      redis.call('ZREM', keys[1], node)
      redis.call('HDEL', keys[2], node, 'suspect ' .. node)
      redis.call('ZADD', keys[1], ms(now), 'dead ' .. node)
    elseif is_dead == 0 and not is_dead_here then
      redis.call('ZADD', keys[1], 'NX', ms(now + args[1]), node)
    end
  end
  return 1
end

-- take_dead: the caller is given the nodes whose leases have ended, to clear them; and those that whoever was given them
-- before has not cleared in time. A node to be cleared is in the sorted set as "dead <node>", until then.
-- A lease that has ended only makes its node suspect; the verdict is a later call's. For this instance may have stood
-- still, or its clock may have been set: then all leases have ended, and each node has a renewal on its way.
-- KEYS  1 nodes  2 infos   ARGV  1 time for clearing (ms)  2 time for the suspect (ms)   Returns the nodes.
local function take_dead(keys, args)
  local now, dead = now_ms(), {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys[1], '-inf', ms(now))) do
    local node, was_dead = string.gsub(member, '^dead ', '')
    local since = was_dead == 0 and redis.call('HGET', keys[2], 'suspect ' .. node)
    if was_dead == 0 and not since then
      redis.call('HSET', keys[2], 'suspect ' .. node, ms(now))
    elseif was_dead == 1 or now - since >= tonumber(args[2]) then
      redis.call('ZREM', keys[1], member)
      redis.call('ZADD', keys[1], ms(now + args[1]), 'dead ' .. node)
      redis.call('HDEL', keys[2], node, 'suspect ' .. node)
      dead[#dead + 1] = node
    end
  end
  return dead
end

register_always('im_renew_2', renew)
register_always('im_leave_2', leave)
register_always('im_expect_2', expect)
register_always('im_take_dead_2', take_dead)
