-- Names of users by their first letters: a sorted set for each two of them ({T}i:<two letters>), in the slot of those. All
-- scores are 0, so a part of it is read by name.
--
-- A name is put in before its account is made, and taken out before that is erased: where a worker dies in between there is
-- a name without an account, which a search leaves out, or an account that is not found, whose erasing is to be repeated.

-- index_name, unindex_name.  KEYS  1 names   ARGV  1 name   Returns {'ok'}.
local function index_name(keys, args)
  redis.call('ZADD', keys[1], 0, args[1])
  return { 'ok' }
end

local function unindex_name(keys, args)
  redis.call('ZREM', keys[1], args[1])
  return { 'ok' }
end

redis.register_function('im_index_name_2', index_name) -- refused where the store is full
register_always('im_unindex_name_2', unindex_name)
