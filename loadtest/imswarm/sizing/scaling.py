"""`imswarm scaling`: what a message costs in CPU time with more and more workers, and shards.

Elapsed time can't scale where there are two cores; but if the CPU time of a message stays the same, more cores do more
messages. The machine's speed drifts, so the sizes take turns, and a ratio is taken within one round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from imswarm.bench import Bench, Floors, SwarmSize, Talk, Window
from imswarm.chat import ChatOptions, talk
from imswarm.client_process import Settle
from imswarm.cluster import running_cluster
from imswarm.deployment import Deployment, started
from imswarm.faults.store import server_program
from imswarm.faults.victim import free_ports
from imswarm.plot import Axis, Curve, Panel, drawing, html_page, table
from imswarm.processes import Cores
from imswarm.report import Progress, Report, per, readable
from imswarm.stats import Tally

_DRAIN_SECONDS = 30.0
COLUMNS = ("workers", "shards", "server_us", "redis_us", "total_us", "ratio", "deliveries_per_s", "latency_p99_ms")


@dataclass(frozen=True, slots=True)
class ScalingOptions:
    """`workers`: with the embedded store; `shards`: of a cluster, with `shard_workers` workers each time.

    `rate_per_second` None: a closed loop.
    """

    workers: tuple[int, ...]
    shards: tuple[int, ...]
    shard_workers: int
    pairs: int
    window: int
    body_bytes: int
    seconds: float
    warm_up_seconds: float
    rounds: int
    processes: int
    rate_per_second: float | None


@dataclass(frozen=True, slots=True)
class Size:
    """`shards` 0: the embedded store, no cluster."""

    workers: int
    shards: int


@dataclass(frozen=True, slots=True)
class Point:
    """CPU microseconds of a delivered message, of workers and of the store."""

    server_us: float
    redis_us: float
    deliveries_per_s: float
    latency_p99_ms: float

    @property
    def total_us(self) -> float:
        return self.server_us + self.redis_us


def run_scaling(options: ScalingOptions, cores: Cores, progress: Progress) -> Report:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    sizes = [Size(workers, 0) for workers in options.workers]
    sizes += [Size(options.shard_workers, shards) for shards in options.shards]
    points: dict[Size, list[Point]] = {size: [] for size in sizes}
    outcome = Tally()
    for _ in range(options.rounds):
        for size in sizes:
            point, tally = _measure(size, options, cores, progress)
            points[size].append(point)
            outcome += tally
    return {
        "scenario": "scaling",
        "rounds": options.rounds,
        "pairs": options.pairs,
        "window": options.window if options.rate_per_second is None else None,
        "rate_per_second": options.rate_per_second,
        "server_cores": sorted(cores.server or ()) or "any",
        "by_workers": _rows(points, [size for size in sizes if not size.shards]),
        "by_shards": _rows(points, [size for size in sizes if size.shards]),
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        "errors": outcome.errors.total(),
        "error_kinds": dict(outcome.errors.most_common(20)),
    }


def _rows(points: dict[Size, list[Point]], sizes: Sequence[Size]) -> list[Report]:
    """Medians of the rounds. `ratio`: of the total to the first size, in the same round."""
    rows: list[Report] = []
    for size in sizes:
        measured, first = points[size], points[sizes[0]]
        ratios = [one.total_us / base.total_us for one, base in zip(measured, first, strict=True)]
        row: dict[str, object] = {"workers": size.workers, "shards": size.shards or None}
        for name in ("server_us", "redis_us", "total_us", "deliveries_per_s", "latency_p99_ms"):
            row[name] = median(getattr(point, name) for point in measured)
        rows.append({**row, "ratio": median(ratios), "ratio_least": min(ratios), "ratio_most": max(ratios)})
    return rows


def _measure(size: Size, options: ScalingOptions, cores: Cores, progress: Progress) -> tuple[Point, Tally]:
    shards = f", {size.shards} shards" if size.shards else ""
    progress.stage(f"{size.workers} workers{shards}: starting")
    swarm_size = SwarmSize(2 * options.pairs, "tcp", options.processes, 64, "swarm")
    chat = ChatOptions(
        talk=Talk(options.pairs, options.window, options.body_bytes, ack=True),
        seconds=options.seconds,
        warm_up_seconds=options.warm_up_seconds,
        drain_seconds=_DRAIN_SECONDS,
        rate_per_second=options.rate_per_second,
        latency_at=None,
    )
    with _deployment(size, cores) as deployment:
        bench = Bench(deployment, cores, Floors(None, 0.0), progress)
        accounts = bench.accounts(swarm_size)
        with bench.swarm(swarm_size, accounts, chat.talk) as swarm:
            bench.log_in(swarm, swarm_size)
            window = talk(bench, swarm, swarm_size, chat, options.rate_per_second)
            outcome = swarm.order(Settle())
            outcome.errors = swarm.errors
    return _point(window), outcome


def _point(window: Window) -> Point:
    delivered = window.tally.delivered
    return Point(
        server_us=per(window.cpu_s["server"] * 1e6, delivered) or 0.0,
        redis_us=per(window.cpu_s["redis"] * 1e6, delivered) or 0.0,
        deliveries_per_s=delivered / window.seconds,
        latency_p99_ms=window.tally.latency.percentile_ms(99) or 0.0,
    )


@contextmanager
def _deployment(size: Size, cores: Cores) -> Iterator[Deployment]:
    if not size.shards:
        with started(size.workers, None, cores.server) as deployment:
            yield deployment
        return
    with (
        tempfile.TemporaryDirectory(prefix="imswarm-", ignore_cleanup_errors=True) as directory,
        running_cluster(
            Path(server_program()),
            Path(directory),
            free_ports(2 * size.shards),
            primaries=size.shards,
            cores=cores.server,
        ) as cluster,
        started(size.workers, ",".join(node.url for node in cluster.nodes), cores.server) as deployment,
    ):
        yield deployment


def page(report: Report) -> str:
    """Both curves, and the figures."""
    body = []
    for name, by in (("by_workers", "workers"), ("by_shards", "shards")):
        rows = report[name]
        if rows:
            shown = ("total_us", "server_us", "redis_us")
            curves = [Curve(column.replace("_", ", "), [(row[by], row[column]) for row in rows]) for column in shown]
            axis = Axis(0.0, float(max(row[by] for row in rows)), by)
            body += [f"<h2>CPU of a message, by {by}</h2>", drawing([Panel(" us", curves)], axis)]
            body.append(table(([readable(row[column]) for column in COLUMNS] for row in rows), COLUMNS))
    return html_page("imswarm scaling", "\n".join(body))
