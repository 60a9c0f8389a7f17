"""imswarm: many clients in few processes, to measure a server and to check what it promises.

The path of a measurement:

    cli          the commands and their options; command: what they share
    scenario     runs that are described in files
    chat, idle, login, storm
                 one scenario each: what is started, when it is measured, what is reported
    floor        what the machine itself can do in the same run (floor.c, floor_echo.py)
    deployment   the server under test, started here or running already; accounts
    processes    CPU time, memory and cores of processes, read from the operating system
    swarm        the parent's side of the client processes; children: those processes
    client_process
                 a client process: obeys the parent's orders
    population   connects and logs in many sessions, answers keepalive
    traffic      the conversations of active pairs, closed or open loop
    company      sessions that come back: who talks with whom, is in which group, comes and goes
    resuming     one of them; flows: what it says, to whom
    checker      what was sent, answered and delivered: lost, duplicated, reordered
    client_loop  epoll; connection: one socket; tcp, ws: framing
    stats        latencies and counts; report: tables and JSON; plot: curves in a page

`sizing` says how much is needed for how many: scaling, calibration, capacity.

`peers` measures other servers with the same sessions and pairs, beside this one.

The path of a run with faults begins in `faults`; it ends here:

    history      what every device did and saw, line by line
    evidence     the same in columns
    judge        what is wrong with it, each with its smallest counter-example

Nothing here imports the server's own protocol code: a mistake there must not hide itself. Only
`accounts` uses the server's package, to make accounts and tokens in bulk, and `chat`, to call
py-spy; and the devices of `faults` are imclient's, since it is what users rely on. The judge knows
neither.
"""
