"""imswarm faults: users talk without pause while one thing after the other breaks; then the histories are judged.

    run        the whole of it: start, break and mend, let heal, judge, report
    schedule   which fault comes when, from a seed
    injuries   the faults: how each begins, and how it is mended
    cluster_injuries   those of a cluster, and what may be lost by them
    readers    extra clients that read slowly, or not at all
    victim     the server, started here or running already
    proxy      a store of the run's own, from which a worker can be cut off
    talk       who talks to whom
    crew       the parent's side of the client processes; plan: what they tell each other
    client     a client process: paces its devices, obeys the parent
    device     one device: imclient underneath, a history as it goes
    figures    delay, throughput, and when traffic came back
    outcome    the report: JSON, tables; timeline: the page with the drawing
    mistakes   what is done to a history on purpose, to see that the judge notices

Clients are those that users rely on: `imclient`, with its reconnecting, resuming and repeating. What they
did and saw is judged by `imswarm.judge`, which knows neither of them.
"""
