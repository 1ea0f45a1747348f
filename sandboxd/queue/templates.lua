-- Makes or changes a template: 1, or 0 if that would be one too many.
--
-- KEYS[1]  a tenant's templates, a hash of name -> document
-- ARGV     name, document, how many a tenant may have
local is_new = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
if is_new and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
