"""The faults, a row each: how it is done, for how long, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass

from imswarm.faults import cluster_injuries as cluster
from imswarm.faults import injuries as how
from imswarm.faults.incidents import CUT, LATE_NEWS, REFUSED, TURNED_AWAY
from imswarm.faults.victim import GRACE_SECONDS, LEASE_SECONDS, PATIENCE_SECONDS, Victim
from imswarm.presence_judge import FALSE_OFFLINE

_NOTHING: frozenset[str] = frozenset()


def _set(*words: str) -> frozenset[str]:
    return frozenset(words)


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault; it lasts `seconds` before it is mended.

    `takes`: parts that it has for itself; faults that take the same part make no sense at the same time.
    `excuses`: the incidents (see `incidents`) that clients may meet because of it; of others it MUST spare them.
    `needs`: what the server must have.
    """

    name: str
    inflict: how.Inflict
    seconds: float
    takes: frozenset[str] = _NOTHING
    excuses: frozenset[str] = _NOTHING
    needs: frozenset[str] = _NOTHING


_SLOW = _set(LATE_NEWS)
_LATE = _set(TURNED_AWAY, LATE_NEWS)
_RUDE = _set(TURNED_AWAY, CUT, LATE_NEWS)
_DEAD = _RUDE | _set(FALSE_OFFLINE)  # for longer than the lease: the others cannot know better
_ELECTS = _LATE | _set(FALSE_OFFLINE)
_DOWN = _set(TURNED_AWAY, REFUSED, LATE_NEWS)
_EVERYTHING = _set("workers", "stopping", "store", "proxy", "supervisor", "entrance")
_AWAY_SECONDS = max(GRACE_SECONDS, LEASE_SECONDS) + 5.0  # contacts must know 3 s before it is over

FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill-worker", how.kill_worker, 0.0, _set("workers"), _RUDE),
        Fault("freeze-worker", how.freeze_worker, PATIENCE_SECONDS * 0.4, _set("stopping"), _SLOW),
        Fault("freeze-worker-long", how.freeze_worker, PATIENCE_SECONDS * 1.5, _set("stopping"), _DEAD),
        Fault("kill-store", how.kill_store, 0.0, _set("store"), _LATE, _set("store")),
        Fault("freeze-store", how.freeze_store, 1.0, _set("store"), _SLOW, _set("store")),
        Fault("freeze-store-long", how.freeze_store, 3.5, _set("store"), _LATE, _set("store")),
        Fault("cut-links", how.cut_links, 0.0, _set("store"), _LATE),
        Fault("cut-off-worker", how.cut_off_worker, 1.0, _set("proxy"), _LATE, _set("proxy")),
        Fault("cut-off-worker-long", how.cut_off_worker, LEASE_SECONDS * 1.4, _set("proxy"), _DEAD, _set("proxy")),
        Fault(
            "cut-off-worker-at-login",
            how.cut_off_worker_at_login,
            LEASE_SECONDS * 1.4,
            _set("proxy", "clients"),
            _DEAD,
            _set("proxy"),
        ),
        # An election can take as long as the lease here, which is shorter than an operator would have it.
        Fault("failover", cluster.failover, 1.0, _set("store", "supervisor"), _ELECTS, _set("cluster")),
        Fault("failover-behind", cluster.failover_behind, 1.0, _set("store", "supervisor"), _ELECTS, _set("cluster")),
        Fault("failover-asked", cluster.failover_asked, 0.0, _set("store", "supervisor"), _LATE, _set("cluster")),
        Fault("move-slots", cluster.move_slots, 0.0, _set("store", "supervisor"), _LATE, _set("cluster")),
        # A new worker does not start while the store is full: that is no time for a restart.
        Fault("full-store", how.fill_store, 1.0, _set("store", "supervisor"), _LATE),
        Fault("reset-clients", how.reset_clients, 0.0, _set("clients")),
        Fault("restart-clients", how.restart_clients, 0.0, _set("clients")),
        Fault("clients-away", how.send_clients_away, _AWAY_SECONDS, _set("clients", "entrance")),
        Fault(
            "kill-worker-for-good",
            how.kill_worker_for_good,
            _AWAY_SECONDS,
            _set("clients", "entrance", "workers", "stopping"),
            _RUDE - _SLOW,
        ),
        Fault("slow-reader", how.read_slowly, 2.0, _set("entrance")),
        Fault("stuck-reader", how.read_nothing, 3.0, _set("entrance")),
        Fault("rolling-restart", how.restart_rolling, 0.0, _set("supervisor")),
        Fault("restart-server", how.restart_server, 0.0, _EVERYTHING, _DOWN, _set("own")),
    )
}


def possible(victim: Victim) -> list[str]:
    """The faults that this server can be given, by name."""
    parts = {"own": victim.own, "store": victim.store, "proxy": victim.proxy, "cluster": victim.cluster}
    has = {part for part, there in parts.items() if there is not None}
    return [fault.name for fault in FAULTS.values() if fault.needs <= has]


def may_overlap(one: str, other: str) -> bool:
    """Whether one may begin while the other is under way."""
    return one != other and not FAULTS[one].takes & FAULTS[other].takes


def excuses() -> dict[str, frozenset[str]]:
    """By the name of the fault."""
    return {fault.name: fault.excuses for fault in FAULTS.values()}
