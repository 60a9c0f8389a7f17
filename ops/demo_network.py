"""Where the hosts of `ops/cluster-demo` are: each in a network of its own, or each at a loopback address."""

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Protocol

Names = Sequence[str]


class Network(Protocol):
    front: str  # this machine's address, as the hosts see it: for HAProxy and Redis
    addresses: dict[str, str]  # of each host
    about: str

    def inside(self, host: str) -> list[str]:
        """What stands before a command that runs at the host."""


class Loopback:
    """The hosts are addresses of this machine. Linux only: elsewhere there is 127.0.0.1 alone."""

    front = "127.0.0.1"
    about = "the hosts are loopback addresses"

    def __init__(self, names: Names) -> None:
        self.addresses = {name: f"127.0.0.{11 + index}" for index, name in enumerate(names)}

    def inside(self, host: str) -> list[str]:
        return []


class Namespaces:
    """Each host has a network namespace, with one address, on a switch that this machine is on, too."""

    about = "each host has a network namespace"

    def __init__(self, names: Names, stack: ExitStack) -> None:
        """What it makes is gone with `stack`. Raises OSError or CalledProcessError where that can't be had."""
        mark = os.getpid() % 65536
        net, bridge = f"10.231.{mark % 250}", f"imdemo{mark:x}"
        self.front = f"{net}.1"
        self.addresses = {name: f"{net}.{11 + index}" for index, name in enumerate(names)}
        self._namespaces = {name: f"{bridge}-{name}" for name in names}
        _make(stack, ["link", "add", bridge, "type", "bridge"], ["link", "del", bridge])
        _ip("addr", "add", f"{self.front}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for index, name in enumerate(names):
            self._add(stack, name, bridge, f"imdemo{mark:x}.{index}")

    def _add(self, stack: ExitStack, name: str, bridge: str, port: str) -> None:
        namespace = self._namespaces[name]
        _make(stack, ["netns", "add", namespace], ["netns", "del", namespace])
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", port, "master", bridge, "up")
        _ip("-n", namespace, "addr", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", namespace, "link", "set", device, "up")

    def inside(self, host: str) -> list[str]:
        return ["ip", "netns", "exec", self._namespaces[host]]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _make(stack: ExitStack, make: list[str], unmake: list[str]) -> None:
    _ip(*make)
    stack.callback(_quietly, unmake)


def _quietly(words: list[str]) -> None:
    with suppress(OSError, subprocess.CalledProcessError):
        _ip(*words)


def make_network(names: Names, stack: ExitStack) -> Network:
    """Namespaces where this user may make them (root, on Linux), else loopback addresses."""
    with ExitStack() as attempt:
        try:
            network = Namespaces(names, attempt)
        except (OSError, subprocess.CalledProcessError):
            return Loopback(names)
        stack.push(attempt.pop_all())
        return network
