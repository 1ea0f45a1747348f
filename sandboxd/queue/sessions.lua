-- The directory of sessions: which node has which sandbox, and what became of those that ended.
-- `sessions.py` prepends the shebang.
--
-- KEYS[1] is the namespace `sandboxd:{instance}:`, one hash slot. Below it
--
--   session:ID            hash   document (JSON of `Entry`), tenant, node, state (live, ended), key,
--                                callback (JSON of `Callback`, or empty), told (kinds of events, each
--                                between spaces; empty: all); expires a while after it ended, before
--                                that it does not
--   sessions:TENANT       zset   ids by the millisecond of creation; those that expired are dropped by
--                                whoever meets them
--   sessions-live:TENANT  set    ids that have not ended
--   sessions-of:NODE      set    ids that have not ended and are on this node
--   sessions-nodes        set    nodes that have a sessions-of
--   session-key:TENANT:HASH  string  key of get_or_create -> id; a reservation expires, that of a live
--                                sandbox does not, and goes with its end
--   session-absent:NODE   string since when a node with sandboxes has not been announced; expires
--   session-events:TENANT stream what happened, capped; expires when nothing does
--   hooks, hooksdue, hooks-of:TENANT  see `store.lua`: an event that is to be told becomes a webhook
--                                here, in the same step
--
-- A document is written by the sandbox's node alone, and never after its end.

local root, action = KEYS[1], ARGV[1]
local RESERVED_MS = 60000
local HOOKS_MAX = 1000

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Beyond so many webhooks of a tenant that wait, what happens is only in the stream.
local function tell(tenant, id, position, kind, data)
  local held = redis.call('HMGET', root .. 'session:' .. id, 'callback', 'told')
  local callback, told = held[1], held[2]
  local waiting = root .. 'hooks-of:' .. tenant
  if not callback or callback == ''
    or told ~= '' and not string.find(told, ' ' .. kind .. ' ', 1, true)
    or redis.call('SCARD', waiting) >= HOOKS_MAX then
    return
  end
  local name = id .. ':' .. position
  local hook = string.format(
    '{"tenant":%s,"callback":%s,"event":{"id":"%s","type":"%s","sandbox":"%s","data":%s}}',
    cjson.encode(tenant), callback, position, kind, id, data)
  redis.call('HSET', root .. 'hooks', name, hook)
  redis.call('ZADD', root .. 'hooksdue', now(), name)
  redis.call('SADD', waiting, name)
end

local function emit(tenant, id, kind, data, cap, ttl)
  local key = root .. 'session-events:' .. tenant
  local position = redis.call('XADD', key, 'MAXLEN', '~', cap, '*', 'type', kind, 'sandbox', id, 'data',
    data)
  redis.call('PEXPIRE', key, ttl)
  tell(tenant, id, position, kind, data)
end

local actions = {}

-- Whose id a key shall be: the live sandbox's that has it, or this one's, for as long as a creation
-- takes. Refused beyond the tenant's number of live sandboxes.
function actions.reserve(tenant, id, hash, max)
  local key = root .. 'session-key:' .. tenant .. ':' .. hash
  if hash ~= '' then
    local holder = redis.call('GET', key)
    if holder then
      return {'ok', holder}
    end
  end
  if redis.call('SCARD', root .. 'sessions-live:' .. tenant) >= tonumber(max) then
    return {'quota'}
  end
  if hash ~= '' then
    redis.call('SET', key, id, 'PX', RESERVED_MS)
  end
  return {'ok', id}
end

-- Give a reservation back whose sandbox did not come to be.
function actions.release(tenant, id, hash)
  local key = root .. 'session-key:' .. tenant .. ':' .. hash
  if redis.call('GET', key) == id and redis.call('EXISTS', root .. 'session:' .. id) == 0 then
    redis.call('UNLINK', key)
  end
  return 1
end

-- A new sandbox, or the same again: a connection that broke repeats. -1 if the tenant has `max`.
function actions.add(tenant, id, hash, node, document, callback, told, data, cap, ttl, max)
  local key = root .. 'session:' .. id
  if redis.call('EXISTS', key) == 1 then
    return redis.call('HGET', key, 'document') == document and 1 or 0
  end
  if redis.call('SCARD', root .. 'sessions-live:' .. tenant) >= tonumber(max) then
    return -1
  end
  redis.call('HSET', key, 'document', document, 'tenant', tenant, 'node', node, 'state', 'live',
    'key', hash, 'callback', callback, 'told', told)
  redis.call('ZADD', root .. 'sessions:' .. tenant, now(), id)
  redis.call('SADD', root .. 'sessions-live:' .. tenant, id)
  redis.call('SADD', root .. 'sessions-of:' .. node, id)
  redis.call('SADD', root .. 'sessions-nodes', node)
  if hash ~= '' then
    redis.call('SET', root .. 'session-key:' .. tenant .. ':' .. hash, id)
  end
  emit(tenant, id, 'created', data, cap, ttl)
  return 1
end

-- What it is now, as long as it lives. 0 if it is not this node's, or over.
function actions.update(id, node, document, kind, data, cap, ttl)
  local key = root .. 'session:' .. id
  local held = redis.call('HMGET', key, 'node', 'state', 'tenant')
  if held[1] ~= node or held[2] ~= 'live' then
    return 0
  end
  redis.call('HSET', key, 'document', document)
  if kind ~= '' then
    emit(held[3], id, kind, data, cap, ttl)
  end
  return 1
end

-- Its end, once.
function actions.finish(id, node, document, keep, data, cap, ttl)
  local key = root .. 'session:' .. id
  local held = redis.call('HMGET', key, 'node', 'state', 'tenant', 'key')
  if held[1] ~= node or held[2] ~= 'live' then
    return 0
  end
  redis.call('HSET', key, 'document', document, 'state', 'ended')
  redis.call('PEXPIRE', key, keep)
  redis.call('SREM', root .. 'sessions-live:' .. held[3], id)
  redis.call('SREM', root .. 'sessions-of:' .. node, id)
  if redis.call('EXISTS', root .. 'sessions-of:' .. node) == 0 then
    redis.call('SREM', root .. 'sessions-nodes', node)
  end
  redis.call('PEXPIRE', root .. 'sessions:' .. held[3], keep * 2)
  if next(redis.call('SRANDMEMBER', root .. 'sessions-live:' .. held[3], 1)) then
    redis.call('PERSIST', root .. 'sessions:' .. held[3])
  end
  local name = root .. 'session-key:' .. held[3] .. ':' .. held[4]
  if held[4] ~= '' and redis.call('GET', name) == id then
    redis.call('UNLINK', name)
  end
  emit(held[3], id, 'ended', data, cap, ttl)
  return 1
end

-- A page of a tenant's sandboxes, the newest first, from a place on: id, creation, document in turn.
function actions.page(tenant, before, count)
  local index, found = root .. 'sessions:' .. tenant, {}
  local ids = redis.call('ZREVRANGEBYSCORE', index, before, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
  for i = 1, #ids, 2 do
    local document = redis.call('HGET', root .. 'session:' .. ids[i], 'document')
    if not document then
      redis.call('ZREM', index, ids[i])
    end
    local at = #found
    found[at + 1], found[at + 2], found[at + 3] = ids[i], ids[i + 1], document or ''
  end
  return found
end

-- Live sandboxes of nodes, but this one, that have not been announced for `grace` milliseconds, as they
-- were seen here: an outage of this server is none of theirs. Id, node, document in turn.
function actions.orphans(own, grace, count)
  local found, clock = {}, now()
  for _, node in ipairs(redis.call('SMEMBERS', root .. 'sessions-nodes')) do
    local absent = root .. 'session-absent:' .. node
    if node == own or redis.call('EXISTS', root .. 'node:' .. node) == 1 then
      redis.call('UNLINK', absent)
    else
      redis.call('SET', absent, clock, 'NX')
      redis.call('PEXPIRE', absent, grace * 3 + 60000)
    end
    local since = redis.call('GET', absent)
    if since and clock - tonumber(since) >= tonumber(grace) then
      for _, id in ipairs(redis.call('SRANDMEMBER', root .. 'sessions-of:' .. node, count)) do
        found[#found + 1] = id
        found[#found + 1] = node
        found[#found + 1] = redis.call('HGET', root .. 'session:' .. id, 'document') or ''
      end
    end
  end
  return found
end

return actions[action](unpack(ARGV, 2))
