-- Invitations to register, and reports of users.
--
-- An invitation ({T}j:<code>, a hash that expires):
--   uses, used, until (unix seconds)
--   u:<user>   one of its uses is this user's: also while the account is being made. So a registration that is said again, or
--              was cut off in between, takes no second one.
--
-- Reports ({0}reports, a hash): "<by> <user>" -> JSON. One user has one report of another; it stays until it is closed.

-- make_invite.   KEYS  1 invitation   ARGV  1 uses  2 until (unix seconds)   Returns {'ok'}.
local function make_invite(keys, args)
  redis.call('HSET', keys[1], 'uses', args[1], 'used', 0, 'until', args[2])
  redis.call('EXPIREAT', keys[1], args[2])
  return { 'ok' }
end

-- use_invite: before the account is made.
-- KEYS  1 invitation   ARGV  1 user   Returns {'ok'}; {'not-found'}: there is none, or no use is left.
local function use_invite(keys, args)
  local known = redis.call('HMGET', keys[1], 'uses', 'used', 'u:' .. args[1])
  if known[3] then return { 'ok' } end
  if not known[1] or tonumber(known[2]) >= tonumber(known[1]) then return NOT_FOUND end
  redis.call('HSET', keys[1], 'used', known[2] + 1, 'u:' .. args[1], 1)
  return { 'ok' }
end

-- return_invite: the account was not made.   KEYS, ARGV as use_invite   Returns {'ok'}.
local function return_invite(keys, args)
  if redis.call('HDEL', keys[1], 'u:' .. args[1]) == 1 then redis.call('HINCRBY', keys[1], 'used', -1) end
  return { 'ok' }
end

-- forget_invited: the account was erased; the use stays used.   KEYS, ARGV as use_invite   Returns {'ok'}.
local function forget_invited(keys, args)
  redis.call('HDEL', keys[1], 'u:' .. args[1])
  return { 'ok' }
end

-- report.   KEYS  1 reports   ARGV  1 "by user"  2 what  3 most   Returns {'ok'} {'full'}.
local function report(keys, args)
  if redis.call('HLEN', keys[1]) >= tonumber(args[3]) and redis.call('HEXISTS', keys[1], args[1]) == 0 then
    return { 'full' }
  end
  redis.call('HSET', keys[1], args[1], args[2])
  return { 'ok' }
end

-- close_report.   KEYS  1 reports   ARGV  1 "by user"   Returns {'ok'} {'not-found'}.
local function close_report(keys, args)
  return redis.call('HDEL', keys[1], args[1]) == 1 and { 'ok' } or NOT_FOUND
end

redis.register_function('im_make_invite_2', make_invite) -- these two are refused where the store is full
redis.register_function('im_report_2', report)
register_always('im_use_invite_2', use_invite)
register_always('im_return_invite_2', return_invite)
register_always('im_forget_invited_2', forget_invited)
register_always('im_close_report_2', close_report)
