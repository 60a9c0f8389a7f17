"""A worker that serves nobody: it speaks the control channel and says to each TCP client which process it is.

The tests of the supervisor run it in place of `imserver.worker`. Files in the data directory change what it does:

    refuse      it ends before it is ready, as a worker with an unusable store does
    linger      it drains until the control channel ends, as a worker whose clients stay does
    babble      it answers a question for statistics with something else
"""

import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any


def main() -> int:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(True)
    lines = control.makefile("r", encoding="utf-8")
    start = json.loads(next(lines))
    asked_to = Path(start["settings"]["data"])
    if (asked_to / "refuse").exists():
        print("refused, as asked", file=sys.stderr)
        return 3
    listener = socket.socket(fileno=start["tcp_fds"][0])
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    node = f"node{os.getpid()}"
    send(control, {"ready": {"node": node, "pid": os.getpid()}})
    for line in lines:
        request = json.loads(line)
        if request["do"] == "drain":
            print(f"draining over {request['seconds']} s", file=sys.stderr)
            if not (asked_to / "linger").exists():
                return 0
        elif (asked_to / "babble").exists():
            control.sendall(b"what?\n")
        else:
            send(control, {"re": request["ref"], "statistics": statistics(start["number"], node)})
    return 0


def serve(listener: socket.socket) -> None:
    listener.setblocking(True)
    while True:
        client, _ = listener.accept()
        with client:
            client.sendall(b"%d\n" % os.getpid())


def statistics(number: int, node: str) -> dict[str, Any]:
    return {
        "number": number,
        "node": node,
        "pid": os.getpid(),
        "ready": True,
        "why": "",
        "counters": {"messages_in": 5},
        "labelled": {"errors": {"not-found": 2}},
        "gauges": {"sessions": 3, "ready": 1},
        "histograms": {},
    }


def send(control: socket.socket, message: dict[str, Any]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
