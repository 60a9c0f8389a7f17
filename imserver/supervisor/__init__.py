"""The supervisor: one process that owns what must outlive a worker, and serves no client itself.

    serve            the composition: claim, listen, start, wait, stop; the nursery tree is drawn there
    fleet            the workers: started, started again, replaced, drained
    worker_process   one worker: its process; control: the channel to it
    store_process    the embedded store and its keeper
    sockets          the sockets that listen
    signals          what the operator asks for
    backoff          when to start again what has died
    pages            what the admin port shows

Imports nothing of sessions, routing or wire: a worker is a process, whatever it runs.
"""

from imserver.supervisor.serve import serve

__all__ = ["serve"]
