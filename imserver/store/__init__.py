"""The store: Redis, seen from a worker. Callers give and get types; no word of Redis leaves this package.

store             the typed calls, and what is published
calls             each function of the library: its command, and its reply as a type
groups            the same for groups; group_calls: their functions
stored            messages, and entries about groups, as the log keeps them
partitions        user -> partition -> keys
redis_link        one link to one shard; redis_handshake: how it begins
shards            which instance holds which partitions
embedded, keeper  the store that `imserver serve` runs itself
functions/        what runs inside Redis: one library, of several parts
"""
