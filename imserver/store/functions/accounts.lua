-- Accounts, and the keys that sign their tokens.
--
-- The account of a user ({T}a:<user>, a hash):
--   password, created, disabled
--   invite          the code with which it was registered
--   generation, generation:<device>   grow when tokens are revoked, all or those of a device
--   spared          "device generations": tokens that are good although all were revoked: whoever did that has them
--   first:<device>  when the device first logged in (unix seconds): these are the devices that there are
--   d:<device>      what the user calls the device
--   p:version, p:name, p:avatar, p:about   the profile; the version is there once anything else was

-- register: a new account and its empty log.
-- KEYS  1 state  2 account
-- ARGV  1 password hash, or empty (logs in by token only)  2 now (unix seconds)  3 if given and not empty, a bot: its owner, or -
--       4 if given, the invitation by which it was made
-- Returns {'ok'}; also for a repeat of the call that made the account; {'exists'} otherwise.
local function register(keys, args)
  local known = redis.call('HMGET', keys[2], 'password', 'created')
  if known[2] then
    return { known[1] == args[1] and args[1] ~= '' and 'ok' or 'exists' }
  end
  redis.call('HSET', keys[2], 'password', args[1], 'created', args[2])
  if args[3] and args[3] ~= '' then -- its profile says so, so that has a version from the beginning (as in set_profile)
    redis.call('HSET', keys[2], 'bot', args[3], 'p:version', args[2] .. '000')
  end
  if args[4] then redis.call('HSET', keys[2], 'invite', args[4]) end
  redis.call('HSET', keys[1], 'last', '0-0')
  return { 'ok' }
end

-- Anything is kept only of devices that have logged in: whoever invents names fills nothing.
local NO_DEVICE = { 'no-device' }
local function is_known(account, device)
  return redis.call('HEXISTS', account, 'first:' .. device) == 1
end

-- Whether tokens of these generations let the device in.
local function are_good(account, device, generations)
  local known = redis.call('HMGET', account, 'generation', 'generation:' .. device, 'spared')
  return generations == (known[1] or '0') .. '.' .. (known[2] or '0') or known[3] == device .. ' ' .. generations
end

-- revoke: tokens given out so far stop working and the sessions they opened are told to close.
-- KEYS  1 state  2 account
-- ARGV  1 device, or empty for all  2 place of the session that asks for it, which is not told, or empty
--       3 the generations of that session's login, or empty; with all, they stay good
-- Returns {'ok'} {'not-found'} {'no-device'}; {'revoked'} where that session's own login is: it MUST NOT bring itself back. What concerns
-- its own device alone it may say all the same: a repeat has revoked that login itself.
local function revoke(keys, args)
  if redis.call('EXISTS', keys[2]) == 0 then return NOT_FOUND end
  local device, asking = args[1], args[2]
  -- An operator may have minted a token for a device that has not come yet; a user may not invent devices.
  if device ~= '' and asking ~= '' and not is_known(keys[2], device) then return NO_DEVICE end
  local own = device_at(asking)
  if args[3] ~= '' and own ~= device and not are_good(keys[2], own, args[3]) then return { 'revoked' } end
  redis.call('HINCRBY', keys[2], device == '' and 'generation' or 'generation:' .. device, 1)
  local spared = redis.call('HGET', keys[2], 'spared')
  if device == '' and args[3] ~= '' then
    redis.call('HSET', keys[2], 'spared', own .. ' ' .. args[3])
  elseif spared and (device == '' or string.match(spared, '^[^ ]+') == device) then
    redis.call('HDEL', keys[2], 'spared')
  end
  for place in string.gmatch(redis.call('HGET', keys[1], 'on') or '', '[^ ]+') do
    if place ~= asking and (device == '' or device == device_at(place)) then expel(keys[1], place, 'revoked') end
  end
  return { 'ok' }
end

-- set_password: where it is still what the caller has checked.
-- KEYS  1 state  2 account   ARGV  1 hash of the old one  2 of the new one  3, 4 as 2, 3 of `revoke`; empty: revoke nothing
-- Returns {'ok'}, for a repeat as well; {'changed'} {'not-found'} {'revoked'}.
-- Atomic, and `attach` looks at the password again: no token is given out for the old one behind the step that revokes them.
local function set_password(keys, args)
  local known = redis.call('HGET', keys[2], 'password')
  if not known then return NOT_FOUND end
  if known == args[2] then return { 'ok' } end
  if known ~= args[1] then return { 'changed' } end
  local answer = args[3] == '' and { 'ok' } or revoke(keys, { '', args[3], args[4] })
  if answer[1] == 'ok' then redis.call('HSET', keys[2], 'password', args[2]) end
  return answer
end

-- name_device: what the user calls it.
-- KEYS  1 account   ARGV  1 device  2 name, or empty   Returns {'ok'} {'no-device'}.
local function name_device(keys, args)
  if not is_known(keys[1], args[1]) then return NO_DEVICE end
  if args[2] == '' then
    redis.call('HDEL', keys[1], 'd:' .. args[1])
  else
    redis.call('HSET', keys[1], 'd:' .. args[1], args[2])
  end
  return { 'ok' }
end

-- set_profile.
-- KEYS  1 account   ARGV  1 now (ms)  2 ... field, value, ...   Returns {'ok', version} {'not-found'}.
-- A repeat changes nothing, the version neither. The first version is the time: none comes twice where an account is made anew.
local function set_profile(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return NOT_FOUND end
  local version, is_new = tonumber(redis.call('HGET', keys[1], 'p:version') or 0), false
  for index = 2, #args, 2 do
    local field, value = 'p:' .. args[index], args[index + 1]
    if (redis.call('HGET', keys[1], field) or '') ~= value then
      redis.call('HSET', keys[1], field, value)
      is_new = true
    end
  end
  if is_new then
    version = math.max(tonumber(args[1]), version + 1)
    redis.call('HSET', keys[1], 'p:version', string.format('%.0f', version))
  end
  return { 'ok', version }
end

-- profile: what a user shows to another one.
-- KEYS  1 account  2 roster   ARGV  1 who looks; empty: the user
-- Returns {version, 1 if all is shown, 1 if a bot, name, avatar, about}; {'not-found'} {'hidden'} (the user blocks the one who looks).
local function profile(keys, args)
  local known = redis.call('HMGET', keys[1], 'created', 'p:version', 'p:name', 'p:avatar', 'p:about', 'bot')
  if not known[1] then return NOT_FOUND end
  local record = args[1] ~= '' and (redis.call('HGET', keys[2], args[1]) or '000')
  if record and string.sub(record, 3, 3) == '1' then return { 'hidden' } end
  local shows_all = not record or string.sub(record, 1, 2) == '11'
  local about = shows_all and known[5] or ''
  return { tonumber(known[2] or 0), shows_all and 1 or 0, known[6] and 1 or 0, known[3] or '', known[4] or '', about }
end

-- erase: the account and all that is kept of it are gone; its sessions are told to close.
-- KEYS  1 state  2 account  3 log  4 roster  5 versions  6 groups, all of which the user MUST have left  7 conversations
--       8 their versions  9 expiring  10 waiting messages  11 what is due in the partition
-- ARGV  1 place of the session that asks for it, which is not told, or empty
-- Returns {'ok'} {'not-found'}.
local function erase(keys, args)
  local answer = revoke(keys, { '', args[1], '' })
  forget_waiting(keys[1], keys[10], keys[11])
  redis.call('DEL', unpack(keys, 1, 9))
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

redis.register_function('im_register_2', register) -- these two are refused where the store is full
redis.register_function('im_set_profile_2', set_profile)
register_always('im_revoke_2', revoke)
register_always('im_set_password_2', set_password)
register_always('im_name_device_2', name_device)
redis.register_function{ function_name = 'im_profile_2', callback = profile, flags = { 'no-writes' } }
register_always('im_erase_2', erase)
register_always('im_signing_keys_2', signing_keys)
