-- Accounts, and the keys that sign their tokens.

-- register: a new account and its empty log.
-- KEYS  1 state  2 account
-- ARGV  1 password hash, or empty (logs in by token only)  2 now (unix seconds)  3 if given, a bot: its owner, or -
-- Returns {'ok'}; also for a repeat of the call that made the account; {'exists'} otherwise.
local function register(keys, args)
  local known = redis.call('HMGET', keys[2], 'password', 'created')
  if known[2] then
    return { known[1] == args[1] and args[1] ~= '' and 'ok' or 'exists' }
  end
  redis.call('HSET', keys[2], 'password', args[1], 'created', args[2])
  if args[3] then redis.call('HSET', keys[2], 'bot', args[3]) end
  redis.call('HSET', keys[1], 'last', '0-0')
  return { 'ok' }
end

-- revoke: tokens given out so far stop working and the sessions they opened are told to close.
-- KEYS  1 state  2 account   ARGV  1 device, or empty for all   Returns {'ok'} {'not-found'}.
local function revoke(keys, args)
  if redis.call('EXISTS', keys[2]) == 0 then return NOT_FOUND end
  local device = args[1]
  redis.call('HINCRBY', keys[2], device == '' and 'generation' or 'generation:' .. device, 1)
  for place in string.gmatch(redis.call('HGET', keys[1], 'on') or '', '[^ ]+') do
    if device == '' or device == device_at(place) then expel(keys[1], place, 'revoked') end
  end
  return { 'ok' }
end

-- erase: the account and all that is kept of it are gone; its sessions are told to close.
-- KEYS  1 state  2 account  3 log  4 roster  5 versions  6 groups, all of which the user MUST have left  7 conversations
--       8 their versions
-- Returns {'ok'} {'not-found'}.
local function erase(keys)
  local answer = revoke(keys, { '' })
  redis.call('DEL', unpack(keys))
  return answer
end

-- signing_keys: the keys that sign tokens; the first caller of a deployment makes the first one.
-- KEYS  1 signing keys (hash: id -> secret, `current` -> id)   ARGV  1 id  2 secret  3 "first" or "rotate"
-- Returns the hash as a flat list. A repeated rotation with the same id changes nothing.
local function signing_keys(keys, args)
  if args[3] == 'rotate' or redis.call('HEXISTS', keys[1], 'current') == 0 then
    redis.call('HSET', keys[1], args[1], args[2], 'current', args[1])
  end
  return redis.call('HGETALL', keys[1])
end

redis.register_function('im_register_2', register) -- refused where the store is full
register_always('im_revoke_2', revoke)
register_always('im_erase_2', erase)
register_always('im_signing_keys_2', signing_keys)
