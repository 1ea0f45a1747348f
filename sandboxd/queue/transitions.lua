-- Every transition of a job, one atomic step each. `scripts.py` prepends the shebang.
--
--     queued -> leased -> started -> finished        and back to queued: release, lost lease
--
-- A claim adds one to the job's attempt. start, renew, release and complete name (job, node, attempt)
-- and do nothing once another attempt, a cancellation or a lost lease has overtaken them. Each may be
-- repeated with the same answer, so a caller that lost the connection simply calls again.
--
-- KEYS[1] is the namespace `sandboxd:{instance}:`, one hash slot. Below it
--
--   queue            zset   waiting jobs by place (their number in order of submission); a requeued job
--                           returns to its old place, which is the head
--   pinned           zset   waiting jobs that only one node may have, by place; they are not in `queue`
--   pinned:NODE      zset   those of one node, by place
--   absent:NODE      string the millisecond at which a node with such jobs was first seen to be silent;
--                           gone when it announces itself
--   leases           zset   leased and started jobs by the millisecond at which the lease expires
--   tenants          hash   tenant -> unfinished jobs; no field when it has none
--   counters         hash   submitted, finished (monotonic), started (now running)
--   idle             zset   nodes whose last claim emptied the queue, by the time of that claim
--   reaped           string the millisecond of the latest reap
--   room             hash   node -> what it had left then, `cpu memory`, if it takes jobs unasked
--   nodes            set    ids of announced nodes
--   node:ID          string what that node announced; expires
--   claim:NODE       string the node's latest claim: its call, then attempt and id of each job; expires
--                           with the leases, and answers the same call again
--   inbox:NODE       stream `work`, `job` and `cancel` entries for one node; expires when it stops coming
--   replies:GATEWAY  stream results for one gateway, which trims what it has read; expires likewise
--   job:ID           hash   state tenant node attempt cpu memory retry reply idem created language place
--                           pin losses cancel completed told; values stay short, so it is stored compactly
--   document:ID      string the job as submitted; gone when it is finished
--   result:ID        string the job's one terminal result
--   events:ID        stream what happened to the job, capped
--   idem:HASH        string idempotency key -> job id
--
-- job, result, events and idem expire together after a job is finished; before that they do not.
--
-- Wake-ups. Invariant: while a job waits, no node is in `idle`, or a node that was taken out of `idle`
-- has a `work` entry to read and will claim after it. submit and every return to the queue take one
-- node out of `idle`; a claim that leaves jobs behind takes out the next. A node outside `idle` is
-- running something and claims by itself when that frees capacity. Inboxes are streams because a
-- list pop loses what it popped when the connection breaks. If a woken node dies, reap wakes another.
-- The same holds of a pinned job and its node, which nobody else can stand in for: if that stays silent,
-- reap ends the job.
--
-- Handing over. Where no job waits and a node is idle, submit leases the job to it at once, and a `job`
-- entry brings it: attempt and document. It is taken out of `idle` as if it had been woken, and claims as
-- then, so it gets one job unasked and no second before it has said what room is left.

local root, transition, clock, at, lease, keep, cap =
  KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]

local INBOX_MAX, REPLIES_MAX, REAP_MAX = 4096, 10000, 1000
local INBOX_LEASES = 4    -- an inbox outlives its node's last sign of life by so many leases
local ABSENT_LEASES = 4   -- a node that was silent for so many leases does not come back for its jobs
local LEASED_LOSSES = 10  -- a job whose nodes keep dying before they start it is not blameless
local SAFE_LOSSES = 3     -- starts of a job that says `retry: safe`
local HANDED_MAX = 65536  -- bytes of a document that is worth to be in the inbox once more

local function now()
  if clock ~= 0 then
    return clock
  end
  -- The server's clock is the one that all machines share.
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function emit(id, kind, ...)
  redis.call('XADD', root .. 'events:' .. id, 'MAXLEN', cap, '*', 'type', kind, ...)
end

local function tell(node, kind, value)
  local inbox = root .. 'inbox:' .. node
  redis.call('XADD', inbox, 'MAXLEN', INBOX_MAX, '*', kind, value)
  redis.call('PEXPIRE', inbox, INBOX_LEASES * lease)
end

local function wake()
  local node = redis.call('ZPOPMAX', root .. 'idle')[1]
  if node then
    tell(node, 'work', '1')
  end
end

-- The job waits, at its place, for any node or for the one that it is pinned to.
local function await(id, place, pin)
  if pin == '' then
    redis.call('ZADD', root .. 'queue', place, id)
    wake()
    return
  end
  redis.call('ZADD', root .. 'pinned', place, id)
  redis.call('ZADD', root .. 'pinned:' .. pin, place, id)
  if redis.call('ZREM', root .. 'idle', pin) == 1 then
    tell(pin, 'work', '1')
  end
end

local function give(id, node, attempt)
  redis.call('HSET', root .. 'job:' .. id, 'state', 'leased', 'node', node, 'attempt', attempt)
  redis.call('ZADD', root .. 'leases', now() + lease, id)
  emit(id, 'leased', 'node', node, 'attempt', attempt)
end

-- Whether the first attempt of a job that was never waiting could be given to an idle node.
local function hand_over(id, document, cpu, memory, pin)
  local node = pin
  if #document > HANDED_MAX then
    return false
  elseif pin == '' then
    node = redis.call('ZREVRANGE', root .. 'idle', 0, 0)[1]
  elseif not redis.call('ZSCORE', root .. 'idle', pin) then
    return false
  end
  local room = node and redis.call('HGET', root .. 'room', node)
  if not room then
    return false
  end
  local free_cpu, free_memory = string.match(room, '^(%S+) (%S+)$')
  if tonumber(cpu) > tonumber(free_cpu) or tonumber(memory) > tonumber(free_memory) then
    return false
  end
  redis.call('ZREM', root .. 'idle', node)
  give(id, node, 1)
  tell(node, 'job', '1 ' .. document)
  return true
end

local function wait_no_more(id, pin)
  if pin == '' then
    redis.call('ZREM', root .. 'queue', id)
  else
    redis.call('ZREM', root .. 'pinned', id)
    redis.call('ZREM', root .. 'pinned:' .. pin, id)
  end
end

local function waiting()
  return redis.call('ZCARD', root .. 'queue') + redis.call('ZCARD', root .. 'pinned')
end

-- What a node may have next: the first `count` jobs by place of those that wait for any or for it.
local function heads(node, count)
  if count <= 0 then
    return {}
  end
  local own = redis.call('ZRANGE', root .. 'pinned:' .. node, 0, count - 1, 'WITHSCORES')
  if #own == 0 then
    return redis.call('ZRANGE', root .. 'queue', 0, count - 1)
  end
  local any = redis.call('ZRANGE', root .. 'queue', 0, count - 1, 'WITHSCORES')
  local ids, i, j = {}, 1, 1
  while #ids < count and (own[i] or any[j]) do
    if not any[j] or own[i] and tonumber(own[i + 1]) < tonumber(any[j + 1]) then
      ids[#ids + 1], i = own[i], i + 2
    else
      ids[#ids + 1], j = any[j], j + 2
    end
  end
  return ids
end

-- The state of the job as long as this lease is its latest, else nil.
local function held(id, node, attempt)
  local job = redis.call('HMGET', root .. 'job:' .. id, 'state', 'node', 'attempt')
  if job[2] == node and job[3] == attempt then
    return job[1]
  end
end

local function leave(id, state)
  if state == 'queued' then
    wait_no_more(id, redis.call('HGET', root .. 'job:' .. id, 'pin') or '')
  else
    redis.call('ZREM', root .. 'leases', id)
  end
  if state == 'started' then
    redis.call('HINCRBY', root .. 'counters', 'started', -1)
  end
end

local function finish(id, status, result, completed)
  local key = root .. 'job:' .. id
  local job = redis.call('HMGET', key, 'state', 'tenant', 'reply', 'idem')
  leave(id, job[1])
  redis.call('UNLINK', root .. 'document:' .. id)
  redis.call('HSET', key, 'state', 'finished', 'completed', completed)
  redis.call('PEXPIRE', key, keep)
  redis.call('SET', root .. 'result:' .. id, result, 'PX', keep)
  emit(id, 'finished', 'status', status)
  redis.call('PEXPIRE', root .. 'events:' .. id, keep)
  if job[4] ~= '' then
    redis.call('PEXPIRE', root .. 'idem:' .. job[4], keep)
  end
  if redis.call('HINCRBY', root .. 'tenants', job[2], -1) <= 0 then
    redis.call('HDEL', root .. 'tenants', job[2])
  end
  redis.call('HINCRBY', root .. 'counters', 'finished', 1)
  if job[3] ~= '' then
    local replies = root .. 'replies:' .. job[3]
    -- A large result is not held twice: its reader fetches it by id.
    local inline = #result <= 65536 and result or ''
    redis.call('XADD', replies, 'MAXLEN', REPLIES_MAX, '*', id, inline)
    redis.call('PEXPIRE', replies, keep)
  end
end

-- Ends a job that no node answered for. The fields left out have their defaults.
local function abandon(id, status, reason)
  local job = redis.call('HMGET', root .. 'job:' .. id, 'created', 'language', 'node')
  local result = {id = id, status = status, reason = reason, created_at = job[1], finished_at = at}
  if job[2] ~= '' then result.language = job[2] end
  if job[3] ~= '' then result.node = job[3] end
  finish(id, status, cjson.encode(result), '0')
end

local function requeue(id, state, reason)
  local key = root .. 'job:' .. id
  leave(id, state)
  redis.call('HSET', key, 'state', 'queued', 'node', '')
  local job = redis.call('HMGET', key, 'place', 'pin')
  emit(id, 'requeued', 'reason', reason)
  await(id, job[1], job[2] or '')
end

-- A node fell silent. True if the job waits again, false if that was its end.
local function lose(id)
  local key = root .. 'job:' .. id
  local job = redis.call('HMGET', key, 'state', 'retry', 'cancel')
  if job[3] then
    abandon(id, 'cancelled', nil)
    return false
  end
  local allowed = 1
  if job[1] == 'leased' then
    allowed = LEASED_LOSSES
  elseif job[2] == 'safe' then
    allowed = SAFE_LOSSES
  end
  if redis.call('HINCRBY', key, 'losses', 1) < allowed then
    requeue(id, job[1], 'node_lost')
    return true
  end
  abandon(id, 'internal_error', 'node_lost')
  return false
end

local function lose_all(ids, node)
  local requeued, lost = 0, 0
  for _, id in ipairs(ids) do
    if not node or redis.call('HGET', root .. 'job:' .. id, 'node') == node then
      if lose(id) then
        requeued = requeued + 1
      else
        lost = lost + 1
      end
    end
  end
  return {requeued, lost}
end

-- Ends the jobs of nodes that have been silent for long; how many.
local function give_up()
  local time, last, ended = now(), now() - ABSENT_LEASES * lease, 0
  for _, id in ipairs(redis.call('ZRANGE', root .. 'pinned', 0, REAP_MAX - 1)) do
    local pin = redis.call('HGET', root .. 'job:' .. id, 'pin')
    if redis.call('EXISTS', root .. 'node:' .. pin) == 0 then
      local absent = root .. 'absent:' .. pin
      redis.call('SET', absent, time, 'NX', 'PX', 2 * ABSENT_LEASES * lease)
      if tonumber(redis.call('GET', absent)) <= last then
        abandon(id, 'internal_error', 'node_lost')
        ended = ended + 1
      end
    end
  end
  return ended
end

local transitions = {}

function transitions.submit(id, document, tenant, cpu, memory, retry, reply, created, language, idem,
                            pin, queue_max, tenant_max)
  local key = root .. 'job:' .. id
  if redis.call('EXISTS', key) == 1 then
    return {'accepted', id}
  end
  local earlier = idem ~= '' and redis.call('GET', root .. 'idem:' .. idem)
  if earlier then
    return {'accepted', earlier}
  end
  local before = waiting()
  if before >= tonumber(queue_max) then
    return {'queue_full'}
  end
  if tonumber(redis.call('HGET', root .. 'tenants', tenant) or 0) >= tonumber(tenant_max) then
    return {'quota_exceeded'}
  end
  local place = redis.call('HINCRBY', root .. 'counters', 'submitted', 1)
  redis.call('HSET', key, 'state', 'queued', 'tenant', tenant, 'node', '', 'attempt', 0, 'cpu', cpu,
             'memory', memory, 'retry', retry, 'reply', reply, 'idem', idem, 'created', created,
             'language', language, 'place', place, 'pin', pin)
  redis.call('SET', root .. 'document:' .. id, document)
  redis.call('HINCRBY', root .. 'tenants', tenant, 1)
  if idem ~= '' then
    redis.call('SET', root .. 'idem:' .. idem, id)
  end
  emit(id, 'queued')
  if before > 0 or not hand_over(id, document, cpu, memory, pin) then
    await(id, place, pin)
  end
  return {'accepted', id}
end

-- First whether jobs are left waiting (then nobody wakes the node for them: it must claim again when it has
-- room), then attempt and document of each job. The node `takes` jobs unasked; it has `read` its inbox
-- up to, but not with, that position.
function transitions.claim(node, call, jobs, cpu, memory, takes, read)
  local last, claimed = root .. 'claim:' .. node, {1}
  if read ~= '' then
    redis.call('XTRIM', root .. 'inbox:' .. node, 'MINID', read)
  end
  local before = redis.call('GET', last)
  if before and string.find(before, call .. ' ', 1, true) == 1 then
    for attempt, id in string.gmatch(before, ' (%d+) (%S+)') do
      if held(id, node, attempt) == 'leased' then
        claimed[#claimed + 1] = attempt
        claimed[#claimed + 1] = redis.call('GET', root .. 'document:' .. id)
      end
    end
    return claimed
  end
  redis.call('ZREM', root .. 'idle', node)
  jobs, cpu, memory = tonumber(jobs), tonumber(cpu), tonumber(memory)
  local ids = {call}
  for _, id in ipairs(heads(node, jobs)) do
    local key = root .. 'job:' .. id
    local job = redis.call('HMGET', key, 'cpu', 'memory', 'attempt', 'pin')
    cpu, memory = cpu - job[1], memory - job[2]
    if cpu < 0 or memory < 0 then
      break
    end
    local attempt = job[3] + 1
    wait_no_more(id, job[4] or '')
    give(id, node, attempt)
    claimed[#claimed + 1] = attempt
    claimed[#claimed + 1] = redis.call('GET', root .. 'document:' .. id)
    ids[#ids + 1] = attempt .. ' ' .. id
  end
  if #claimed > 1 then
    redis.call('SET', last, table.concat(ids, ' '), 'PX', lease)
  end
  if redis.call('ZCARD', root .. 'queue') > 0 then
    wake()
  elseif redis.call('ZCARD', root .. 'pinned:' .. node) == 0 then
    redis.call('ZADD', root .. 'idle', now(), node)
    if takes == '1' then
      -- Nothing was left behind, so nothing was counted that it did not get.
      redis.call('HSET', root .. 'room', node, cpu .. ' ' .. memory)
    else
      redis.call('HDEL', root .. 'room', node)
    end
    claimed[1] = 0
  end
  return claimed
end

function transitions.start(id, node, attempt)
  local state = held(id, node, attempt)
  if state == 'leased' then
    redis.call('HSET', root .. 'job:' .. id, 'state', 'started')
    redis.call('HINCRBY', root .. 'counters', 'started', 1)
    redis.call('ZADD', root .. 'leases', now() + lease, id)
    emit(id, 'started', 'node', node, 'attempt', attempt)
    return 1
  end
  return state == 'started' and 1 or 0
end

function transitions.renew(node, ...)
  local gone, expiry = {}, now() + lease
  for _, pair in ipairs({...}) do
    local attempt, id = string.match(pair, '^(%d+) (.*)$')
    local state = held(id, node, attempt)
    if state == 'leased' or state == 'started' then
      redis.call('ZADD', root .. 'leases', expiry, id)
    else
      gone[#gone + 1] = id
    end
  end
  return gone
end

-- What a started job does, told by its node: kinds and documents in turn. `first` numbers the first of
-- them within the attempt, so that a repeated call adds nothing twice.
function transitions.tell(id, node, attempt, first, ...)
  if held(id, node, attempt) ~= 'started' then
    return 0
  end
  local key, told = root .. 'job:' .. id, {...}
  local place = attempt * 1e6 + first
  local known = tonumber(redis.call('HGET', key, 'told') or -1)
  for i = 1, #told, 2 do
    if place > known then
      emit(id, told[i], 'json', told[i + 1])
      known = place
    end
    place = place + 1
  end
  redis.call('HSET', key, 'told', string.format('%.0f', known))
  return 1
end

function transitions.complete(id, node, attempt, status, result)
  local state = held(id, node, attempt)
  if state == 'leased' or state == 'started' then
    finish(id, status, result, '1')
    return 1
  end
  return state == 'finished' and tonumber(redis.call('HGET', root .. 'job:' .. id, 'completed')) or 0
end

function transitions.release(id, node, attempt)
  if held(id, node, attempt) == 'leased' then
    requeue(id, 'leased', 'released')
    return 1
  end
  local job = redis.call('HMGET', root .. 'job:' .. id, 'state', 'attempt')
  return job[1] == 'queued' and job[2] == attempt and 1 or 0
end

function transitions.cancel(id)
  local key = root .. 'job:' .. id
  local job = redis.call('HMGET', key, 'state', 'node')
  if not job[1] then
    return 'unknown'
  elseif job[1] == 'finished' then
    return 'finished'
  elseif job[1] == 'started' then
    if redis.call('HSETNX', key, 'cancel', '1') == 1 then
      emit(id, 'cancel_requested')
    end
    tell(job[2], 'cancel', id)
    return 'requested'
  end
  -- Not executed yet: a node that has leased it is refused at start.
  abandon(id, 'cancelled', nil)
  if job[1] == 'queued' then
    -- It may have been the head that did not fit, so every node may have room for the next.
    for _, node in ipairs(redis.call('SMEMBERS', root .. 'nodes')) do
      tell(node, 'work', '1')
    end
  end
  return 'cancelled'
end

-- The node claims no more: nothing is handed to it after this, and what it was woken for, another gets.
function transitions.withdraw(node)
  redis.call('ZREM', root .. 'idle', node)
  redis.call('HDEL', root .. 'room', node)
  if redis.call('ZCARD', root .. 'queue') > 0 then
    wake()
  end
  return 1
end

function transitions.recover(node)
  redis.call('UNLINK', root .. 'inbox:' .. node, root .. 'node:' .. node)
  redis.call('ZREM', root .. 'idle', node)
  redis.call('HDEL', root .. 'room', node)
  return lose_all(redis.call('ZRANGE', root .. 'leases', 0, -1), node)
end

-- Somebody comes every third of a lease. Where nobody did for twice as long, the server itself was away, or
-- all machines were asleep: then those who renew are behind us in its line, and have until the next time.
function transitions.reap()
  local time, outcome = now(), {0, 0}
  local last = redis.call('SET', root .. 'reaped', time, 'GET')
  if not last or 3 * (time - last) <= 2 * lease then
    local expired = redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', time, 'LIMIT', 0, REAP_MAX)
    outcome = lose_all(expired)
    outcome[2] = outcome[2] + give_up()
    redis.call('ZREMRANGEBYSCORE', root .. 'idle', '-inf', time - INBOX_LEASES * lease)
  end
  if redis.call('ZCARD', root .. 'queue') > 0 then
    wake()
  end
  return outcome
end

function transitions.record(id)
  local job = redis.call('HMGET', root .. 'job:' .. id, 'tenant', 'state', 'created', 'node', 'attempt')
  job[6] = redis.call('GET', root .. 'result:' .. id)
  return job
end

function transitions.announce(node, record, ttl)
  redis.call('SET', root .. 'node:' .. node, record, 'PX', ttl)
  redis.call('UNLINK', root .. 'absent:' .. node)
  redis.call('SADD', root .. 'nodes', node)
end

function transitions.nodes()
  local records = {}
  for _, node in ipairs(redis.call('SMEMBERS', root .. 'nodes')) do
    local record = redis.call('GET', root .. 'node:' .. node)
    if record then
      records[#records + 1] = record
    else
      redis.call('SREM', root .. 'nodes', node)
    end
  end
  return records
end

function transitions.stats()
  local counters = redis.call('HMGET', root .. 'counters', 'started', 'submitted', 'finished')
  local started = tonumber(counters[1] or 0)
  return {waiting(), redis.call('ZCARD', root .. 'leases') - started, started,
          tonumber(counters[2] or 0), tonumber(counters[3] or 0)}
end

return transitions[transition](unpack(ARGV, 7))
