-- How often something may be tried: of a user name ({T}t:<user>) or an address ({T}t:@<address>), a string that expires.
--
-- The string is the time (ms) at which all tries will be back. So many may be made at once, then one more in each interval
-- (the "generic cell rate algorithm": one number tells both).

-- try: one more.
-- KEYS  1 tries   ARGV  1 most at once  2 interval (ms)
-- Returns 0; or the ms until one is back: then nothing is spent.
local function try(keys, args)
  local now, interval = now_ms(), tonumber(args[2])
  local back_at = math.max(now, tonumber(redis.call('GET', keys[1]) or 0)) + interval
  local wait = back_at - now - args[1] * interval
  if wait > 0 then return math.ceil(wait) end
  redis.call('SET', keys[1], ms(back_at), 'PX', ms(back_at - now))
  return 0
end

-- forgive: one comes back at once.   KEYS, ARGV as try   Returns 1.
local function forgive(keys, args)
  local now = now_ms()
  local back_at = tonumber(redis.call('GET', keys[1]) or 0) - args[2]
  if back_at > now then
    redis.call('SET', keys[1], ms(back_at), 'PX', ms(back_at - now))
  else
    redis.call('DEL', keys[1])
  end
  return 1
end

-- forget: as if nothing had ever been tried.   KEYS as try   Returns 1.
local function forget(keys)
  redis.call('DEL', keys[1])
  return 1
end

register_always('im_try_2', try)
register_always('im_forget_2', forget)
register_always('im_forgive_2', forgive)
