"""imswarm faults: users talk without pause while one thing after the other breaks; then the histories are judged.

    run        the whole of it: start, break and mend, let heal, judge, report
    catalogue  the faults, a row each: how, for how long, with which others, what it excuses
    injuries   how each is done, and how it is mended
    cluster_injuries   those of a cluster, and what may be lost by them
    schedule   which fault comes when, and during which other one, from a seed
    course     the faults one after the other, until all are done or the time is over
    readers    extra clients that read slowly, or not at all
    probe      new clients at a steady rate; incidents: what clients met, and what excuses it
    victim     the server, started here or running already
    store      a store of the run's own; proxy: before it, from which a worker can be cut off
    talk       who talks to whom; groups: the groups they are in
    crew       the parent's side of the client processes; plan: what they tell each other
    client     a client process: paces its devices, obeys the parent
    device     one device: imclient underneath, a history as it goes
    figures    delay, throughput, and when traffic came back
    outcome    the report: JSON, tables; timeline: the page with the drawing
    mistakes   what is done to a history on purpose, to see that the judge notices

Clients are those that users rely on: `imclient`, with its reconnecting, resuming and repeating. What they did and saw
is judged by `imswarm.judge` and `imswarm.presence_judge`, which know neither of them.
"""
