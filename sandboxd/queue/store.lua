-- What tenants have uploaded: files that expire, and problems that stay. `store.py` is its client.
--
-- KEYS[1] is the namespace `sandboxd:{instance}:`, one hash slot. Below it
--
--   file:TENANT:DIGEST   string content of an uploaded file; expires
--   files:TENANT         zset   digests of those files by the millisecond at which they expire
--   filesizes:TENANT     hash   digest -> bytes of those files
--   labels:TENANT        hash   name -> small document about one of those files; expires as a whole
--   note:TENANT:KEY      string a small document of an API adapter; expires
--   counts:TENANT        hash   name -> how often; of an API adapter
--   problem:ID           hash   tenant size manifest
--   problemdata:ID       hash   digest -> content; expires until its problem is there
--   problems:TENANT      zset   ids by the millisecond of their creation
--   stored               hash   `t:TENANT` -> bytes of its problems; `all` -> their sum
--   artifact:KEY         string what a program was compiled to, by all that decides it; expires
--   artifacts            zset   those keys by the millisecond of their last use
--   artifactsizes        hash   key -> bytes of those
--   hooks                hash   what is to be told -> its webhook as a document (JSON of `Hook`), until it
--                               is delivered or given up. Named by a submission or run, whose end is told,
--                               or SANDBOX:POSITION of an event, which `sessions.lua` writes
--   hooksdue             zset   those names by the millisecond at which somebody has to look again
--   hooks-of:TENANT      set    names of those that tell of the tenant's sandboxes

local root, action = KEYS[1], ARGV[1]
local actions = {}

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

function actions.keep_file(tenant, digest, data, ttl, max)
  local files, sizes = root .. 'files:' .. tenant, root .. 'filesizes:' .. tenant
  local time = now()
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', files, '-inf', time)) do
    redis.call('ZREM', files, old)
    redis.call('HDEL', sizes, old)
  end
  local total = #data
  for _, size in ipairs(redis.call('HVALS', sizes)) do
    total = total + size
  end
  total = total - (redis.call('HGET', sizes, digest) or 0)
  if total > tonumber(max) then
    return 0
  end
  redis.call('SET', root .. 'file:' .. tenant .. ':' .. digest, data, 'PX', ttl)
  redis.call('ZADD', files, time + ttl, digest)
  redis.call('HSET', sizes, digest, #data)
  redis.call('PEXPIRE', files, ttl)
  redis.call('PEXPIRE', sizes, ttl)
  return 1
end

function actions.drop_file(tenant, digest)
  redis.call('ZREM', root .. 'files:' .. tenant, digest)
  redis.call('HDEL', root .. 'filesizes:' .. tenant, digest)
  return redis.call('UNLINK', root .. 'file:' .. tenant .. ':' .. digest)
end

function actions.count(tenant, ...)
  for _, name in ipairs({...}) do
    redis.call('HINCRBY', root .. 'counts:' .. tenant, name, 1)
  end
  return 1
end

-- The data is in `problemdata` already; this makes it a problem, or says which quota it breaks.
function actions.keep_problem(id, tenant, manifest, size, tenant_max, all_max)
  local stored = root .. 'stored'
  if redis.call('HINCRBY', stored, 't:' .. tenant, 0) + size > tonumber(tenant_max) then
    return 'tenant'
  elseif redis.call('HINCRBY', stored, 'all', 0) + size > tonumber(all_max) then
    return 'all'
  end
  redis.call('HSET', root .. 'problem:' .. id, 'tenant', tenant, 'size', size, 'manifest', manifest)
  redis.call('PERSIST', root .. 'problemdata:' .. id)
  redis.call('ZADD', root .. 'problems:' .. tenant, now(), id)
  redis.call('HINCRBY', stored, 't:' .. tenant, size)
  redis.call('HINCRBY', stored, 'all', size)
  return 'kept'
end

function actions.drop_problem(id, tenant)
  if redis.call('HGET', root .. 'problem:' .. id, 'tenant') ~= tenant then
    return 0
  end
  local size = redis.call('HGET', root .. 'problem:' .. id, 'size')
  redis.call('UNLINK', root .. 'problem:' .. id, root .. 'problemdata:' .. id)
  redis.call('ZREM', root .. 'problems:' .. tenant, id)
  redis.call('HINCRBY', root .. 'stored', 't:' .. tenant, -size)
  redis.call('HINCRBY', root .. 'stored', 'all', -size)
  return 1
end

local function drop_artifact(key)
  redis.call('UNLINK', root .. 'artifact:' .. key)
  redis.call('ZREM', root .. 'artifacts', key)
  redis.call('HDEL', root .. 'artifactsizes', key)
end

-- The least recently used go until there is room.
function actions.keep_artifact(key, data, ttl, max)
  if #data > tonumber(max) then
    return 0
  end
  local used, sizes, time = root .. 'artifacts', root .. 'artifactsizes', now()
  drop_artifact(key)
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', used, '-inf', time - ttl)) do
    drop_artifact(old)
  end
  local total = #data
  for _, size in ipairs(redis.call('HVALS', sizes)) do
    total = total + size
  end
  while total > tonumber(max) do
    local oldest = redis.call('ZRANGE', used, 0, 0)[1]
    total = total - redis.call('HGET', sizes, oldest)
    drop_artifact(oldest)
  end
  redis.call('SET', root .. 'artifact:' .. key, data, 'PX', ttl)
  redis.call('ZADD', used, time, key)
  redis.call('HSET', sizes, key, #data)
  return 1
end

function actions.artifact(key, ttl)
  local found = redis.call('GETEX', root .. 'artifact:' .. key, 'PX', ttl)
  if found then
    redis.call('ZADD', root .. 'artifacts', now(), key)
  end
  return found
end

function actions.keep_hook(id, document, delay)
  redis.call('HSET', root .. 'hooks', id, document)
  redis.call('ZADD', root .. 'hooksdue', now() + delay, id)
  return 1
end

function actions.drop_hook(id)
  local document = redis.call('HGET', root .. 'hooks', id)
  if document then
    redis.call('SREM', root .. 'hooks-of:' .. cjson.decode(document).tenant, id)
  end
  redis.call('HDEL', root .. 'hooks', id)
  return redis.call('ZREM', root .. 'hooksdue', id)
end

-- Takes one webhook, due or not, for `hold` milliseconds: whoever gets the document delivers it.
function actions.take_hook(id, hold)
  local due = redis.call('ZSCORE', root .. 'hooksdue', id)
  local document = redis.call('HGET', root .. 'hooks', id)
  if not due or not document then
    return false
  end
  redis.call('ZADD', root .. 'hooksdue', now() + hold, id)
  return document
end

function actions.take_due_hooks(hold, count)
  local time, taken = now(), {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'hooksdue', '-inf', time, 'LIMIT', 0, count)) do
    redis.call('ZADD', root .. 'hooksdue', time + hold, id)
    taken[#taken + 1] = id
    taken[#taken + 1] = redis.call('HGET', root .. 'hooks', id)
  end
  return taken
end

return actions[action](unpack(ARGV, 2))
