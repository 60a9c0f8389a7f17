"""All contenders in turn, several times; medians, spreads and ratios; the table.

The machine is not always equally fast: a ratio is taken within one round, whose contenders ran
one after the other, and the median of the rounds' ratios is what counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median

from rich.console import Console
from rich.table import Table

from imswarm.deployment import DeploymentError
from imswarm.peers.contenders import IMSERVER, PEERS, Contender, contenders
from imswarm.peers.round import Figures, PeersOptions, measure
from imswarm.processes import Cores
from imswarm.report import Progress, Report, ratio, readable

Rounds = Mapping[str, Sequence[Figures]]
"""The figures of each round, by contender."""

_MEASURED = (
    "messages_per_cpu_s",
    "messages_per_s",
    "bytes_per_session",
    "logins_per_cpu_s",
    "password_logins_per_cpu_s",
    "latency_p50_ms",
    "latency_p99_ms",
)
_COMPARED = ("messages_per_cpu_s", "bytes_per_session", "logins_per_cpu_s", "latency_p50_ms", "latency_p99_ms")
_TABLE_WIDTH = 150
_WRONG = ("lost", "duplicated", "reordered")


def run_peers(
    names: Sequence[str], with_archive: bool, options: PeersOptions, cores: Cores, progress: Progress
) -> Report:
    """Raises AccountsError, DeploymentError (also if every peer is missing), CannotMeasure and SwarmError."""
    missing = [what for name in names if (what := PEERS[name].missing)]
    present = [PEERS[name] for name in names if not PEERS[name].missing]
    if not present:
        raise DeploymentError("; ".join(missing))
    taking_part = contenders(present, with_archive)
    rounds: dict[str, list[Figures]] = {contender.name: [] for contender in taking_part}
    for _ in range(options.rounds):
        for contender in taking_part:
            rounds[contender.name].append(measure(contender, options, cores, progress))
    return {
        "scenario": "peers",
        **asdict(options),
        "server_cores": sorted(cores.server or ()) or "any",
        "load_cores": sorted(cores.load or ()) or "any",
        "missing": missing,
        **{wrong: sum(getattr(figures, wrong) for each in rounds.values() for figures in each) for wrong in _WRONG},
        "errors": sum(figures.errors.total() for each in rounds.values() for figures in each),
        "contenders": {contender.name: _report(contender, rounds) for contender in taking_part},
    }


def _report(contender: Contender, rounds: Rounds) -> Report:
    mine = rounds[contender.name]
    return {
        "version": contender.version,
        "keeps": contender.keeps,
        **{name: _spread([getattr(figures, name) for figures in mine]) for name in _MEASURED},
        "imserver_to_it": compared(rounds[IMSERVER], mine),
        "error_kinds": dict(sum((figures.errors for figures in mine), Counter())),
        "rounds": [asdict(figures) for figures in mine],
    }


def compared(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Report:
    """Our figures divided by theirs, round by round; the spread of these ratios."""
    rounds = list(zip(ours, theirs, strict=True))
    return {
        name: _spread([ratio(getattr(mine, name), getattr(other, name)) for mine, other in rounds])
        for name in _COMPARED
    }


def _spread(values: Sequence[float | None]) -> Report | None:
    known = [value for value in values if value is not None]
    return {"median": median(known), "min": min(known), "max": max(known)} if known else None


def print_comparison(report: Report) -> None:
    """One row for each contender: medians and spreads, and imserver's figures divided by its."""
    title = (
        f"{len(report['contenders'][IMSERVER]['rounds'])} rounds; {report['pairs']} pairs of {report['sessions']} "
        f"sessions; window {report['window']}; bodies of {report['body_bytes']} bytes; "
        f"latency at {report['rate_per_second']:,.0f} messages a second"
    )
    table = Table(title=title, caption="Median, least - most. x: imserver's figure divided by this one.")
    for name in ("", "messages /\nCPU s", "x", "KB /\nsession", "x", "logins /\nCPU s", "x", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, figures in report["contenders"].items():
        table.add_row(*_row(name, figures))
    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)
    console.print(table)
    console.print(_notes(report), soft_wrap=True)


def _row(name: str, figures: Report) -> list[str]:
    compared = {} if name == IMSERVER else figures["imserver_to_it"]
    return [
        name,
        _shown(figures["messages_per_cpu_s"]),
        _shown(compared.get("messages_per_cpu_s")),
        _shown(figures["bytes_per_session"], lambda count: count / 1000),
        _shown(compared.get("bytes_per_session")),
        _shown(figures["logins_per_cpu_s"]),
        _shown(compared.get("logins_per_cpu_s")),
        _shown(figures["latency_p50_ms"]),
        _shown(figures["latency_p99_ms"]),
    ]


def _shown(spread: Report | None, unit: Callable[[float], float] = float) -> str:
    if spread is None:
        return "-"
    middle, least, most = (readable(unit(spread[name])) for name in ("median", "min", "max"))
    return f"{middle}\n{least} - {most}"


def _notes(report: Report) -> str:
    """What the table compares with what, what went wrong, and who could not be measured."""
    contenders = report["contenders"]
    keeps = [f"{name} {one['version']} keeps a message {one['keeps']}." for name, one in contenders.items()]
    by_password = contenders[IMSERVER]["password_logins_per_cpu_s"]["median"]
    logins = f"Logins: imserver's by token (by password, argon2id: {readable(by_password)}), the peers' by SASL PLAIN."
    wrong = ", ".join(f"{report[name]} {name}" for name in (*_WRONG, "errors"))
    return "\n".join([*keeps, logins, f"{wrong}.", *report["missing"]])
