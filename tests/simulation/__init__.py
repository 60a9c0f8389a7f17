"""The deterministic simulation: whole histories of devices, nodes and a store, chosen by a seed.

    schedule   what happens: the world's shape and the steps, both from the seed
    scene      the world in which it happens: devices, nodes, links, the store's model, and what can go wrong
    device     a client as the protocol wants it, and a judge of what it is told
    node       a worker that can also stop, go on, and drain
    ledger     all that was ever stored, and the judgement: the delivery contract
    group_play the same for groups: clients made of imclient's core, judged by imswarm's judges
    history    plays one schedule, tells its story, finds the shortest one that still fails
    planted    bugs that the simulation has to find, and holes that are known
    __main__   the command: `python -m tests.simulation --seeds 0-9999`

Connection, session, routing and all of the protocol are the server's own code; sockets, links and the store are models
(tests/session/memory.py, tests/model_store.py, tests/model_database.py). Nothing here may depend on the clock, on
chance or on the order of a set: a seed is a history, the same in every process.
"""
