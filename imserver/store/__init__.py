"""The store: Redis, seen from a worker. Callers give and get types; no word of Redis leaves this package.

store             the typed calls, and what is published
store_roles       what it needs of others; link_roles: what a link does
calls             each function of the library: its command, and its reply as a type
circle            the same for contacts, presence and typing; circle_calls: their functions
groups            the same for groups; group_calls: their functions
stored            messages, and entries about groups, as the log keeps them
partitions        user -> partition -> keys
redis_link        one link to one shard; backlog: its calls without an answer; link_life: how it comes to a connection;
                  redis_handshake: how that begins
departures        who has left while the store could not write
links             all links, and how they follow a cluster that changes
shards            which instance holds which partitions at the start
cluster_watch     who holds what later; cluster_map: as one node tells it
embedded, keeper  the store that `imserver serve` runs itself
functions/        what runs inside Redis: one library, of several parts
"""
