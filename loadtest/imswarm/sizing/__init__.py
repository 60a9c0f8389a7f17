"""How much is needed for how many.

scaling    CPU of a message with more and more workers, and shards
calibrate  what everything costs here, as a file of coefficients
model      from coefficients and people to cores, memory, traffic
plan       from those to machines and dollars
document   the tables of docs/capacity.md
"""
