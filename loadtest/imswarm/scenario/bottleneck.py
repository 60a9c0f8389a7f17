"""Which resource limits a run, by a rule. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imswarm.processes import Cores

EXHAUSTED = 0.85
"""From this share of a resource on, whatever needs it waits for it noticeably: at 85 % of one server's time a queue is
already five or six long."""

RULE = (
    "The rule: of all resources (a core for the busiest worker, for the busiest store and for the busiest client "
    "process, for each of them has one thread; the cores given to server and store, and to the load; the machine's "
    "memory) the one of which the largest share was in use, on average over the time measured. "
    f"From {EXHAUSTED:.0%} on it limits the run."
)

_WORKER, _STORE = "a core for the busiest worker", "a core for the busiest store"
_CLIENT = "a core for the busiest client process"
_SERVER_CORES, _LOAD_CORES, _ALL_CORES = "the cores of server and store", "the cores of the load", "the machine's cores"
_MEMORY = "the machine's memory"
_LOAD = (_CLIENT, _LOAD_CORES)


@dataclass(frozen=True, slots=True)
class Bottleneck:
    resource: str
    share: float
    text: str


def shares_of(cores: Mapping[str, float], allowed: Cores, machine_cores: int, memory: float) -> dict[str, float]:
    """Which share of each resource was used. `cores`: how many each process used, by its name (`worker 0`)."""
    groups = {
        group: [used for name, used in cores.items() if name.startswith(group)]
        for group in ("worker", "store", "clients", "supervisor")
    }
    server = sum(map(sum, (groups["worker"], groups["store"], groups["supervisor"])))
    load = sum(groups["clients"])
    shares = {
        _WORKER: max(groups["worker"], default=0.0),
        _STORE: max(groups["store"], default=0.0),
        _CLIENT: max(groups["clients"], default=0.0),
        _MEMORY: memory,
    }
    if allowed.server and allowed.load:
        return shares | {_SERVER_CORES: server / len(allowed.server), _LOAD_CORES: load / len(allowed.load)}
    return shares | {_ALL_CORES: (server + load) / machine_cores}


def bottleneck(shares: Mapping[str, float], deliveries_per_s: float) -> Bottleneck:
    resource, share = max(shares.items(), key=lambda item: item[1])
    if share < EXHAUSTED:  # memory does not grow with traffic, so it is not what comes next
        resource, share = max((item for item in shares.items() if item[0] != _MEMORY), key=lambda item: item[1])
        text = (
            f"Nothing limits this run: the load was what was asked for. Nearest to its limit is {resource}, of which "
            f"{share:.0%} was used; if everything grew in proportion it would be exhausted at "
            f"{deliveries_per_s / share if share else 0:,.0f} deliveries a second."
        )
    elif resource in _LOAD:
        text = (
            f"The load generator limits this run: {resource}, of which {share:.0%} was used. Figures per CPU second of "
            "the server hold; throughput and latency say how fast the generator is. Give it more processes and cores."
        )
    else:
        text = f"The bottleneck is {resource}: {share:.0%} of it was used."
    return Bottleneck(resource, share, f"{text} {_others(shares, resource)}")


def _others(shares: Mapping[str, float], named: str) -> str:
    others = sorted(((share, resource) for resource, share in shares.items() if resource != named), reverse=True)
    return "The others: " + ", ".join(f"{resource} {share:.0%}" for share, resource in others) + "."


def mean_cores(samples: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of each process, over all samples; one that lived for a part of the time used nothing in the rest."""
    every = list(samples)
    names = {name: None for cores in every for name in cores}
    return {name: sum(cores.get(name, 0.0) for cores in every) / len(every) for name in names}
