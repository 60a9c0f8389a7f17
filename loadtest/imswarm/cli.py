"""The commands: what the options mean, which scenario runs, how it is reported."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from imserver.config import Durability
from imswarm.bench import Talk
from imswarm.chat import ChatOptions, run_chat
from imswarm.command import (
    WRONG,
    check_pairs,
    exit_if_wrong,
    failures_reported,
    pick,
    print_report,
    room,
    run_bench,
    size_of,
    terminable,
)
from imswarm.faults.catalogue import FAULTS
from imswarm.faults.outcome import show_outcome
from imswarm.faults.plan import MISTAKES
from imswarm.faults.run import FaultOptions, run_faults
from imswarm.faults.victim import EMBEDDED, STORES
from imswarm.floor import MAX_CONNECTIONS, floor_program, measure_floor
from imswarm.group import GroupOptions, run_group
from imswarm.idle import run_idle
from imswarm.login import run_login
from imswarm.options import (
    DIRECTORY,
    FLOOR,
    JSON,
    POSITIVE,
    SECONDS,
    SIZE,
    TARGET,
    WORKERS,
    names_of,
    option,
    with_options,
)
from imswarm.peers.comparison import print_comparison, run_peers
from imswarm.peers.contenders import PEERS
from imswarm.peers.round import PeersOptions
from imswarm.processes import Cores, split_cores
from imswarm.rare import MANY_CONTACT_REQUESTS, RareOptions, run_rare
from imswarm.report import Progress, print_json
from imswarm.rolling import RollingOptions, run_rolling
from imswarm.scenario.command import compare, run
from imswarm.sizing.command import calibrate, capacity, scaling
from imswarm.stamps import STAMP_BYTES
from imswarm.storm.run import EVENTS, StormOptions, run_storm
from imswarm.stuck import StuckOptions, run_stuck

_STORM_SESSIONS = 18_000
_IDLE_WARM_UP = 2.0


@click.group()
def main() -> None:
    """Measure an imserver with many clients, and check what it promises.

    Without --data, --tcp or --http a server is started for the run, on free ports, with a data
    directory of its own. The exit status is 1 if anything was lost, duplicated or reordered or
    any error came, and 2 if the run could not be done.
    """
    if sys.platform != "linux":
        raise click.ClickException("imswarm needs Linux: it uses epoll and reads /proc")


@main.command()
@with_options(TARGET, WORKERS, SIZE, FLOOR)
@option("--pairs", type=POSITIVE, default=200, help="Pairs of sessions that talk.")
@option("--window", type=POSITIVE, default=1, help="Messages outstanding in each direction.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=74)
@option("--seconds", type=SECONDS, default=10.0, help="How long to measure.")
@option("--warm-up-seconds", type=SECONDS, default=2.0)
@option("--drain-seconds", type=SECONDS, default=15.0, help="Longest wait for what is under way.")
@option("--ack/--no-ack", default=True, help="Acknowledge what has come, once a second.")
@option("--rate", "rate_per_second", type=click.FloatRange(min=1.0), help="Open loop: messages a second in all.")
@option(
    "--latency-at",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="Then measure again, in an open loop at this share of the rate just reached.",
)
@option(
    "--profile", type=click.Path(dir_okay=False, path_type=Path), help="Draw a flame graph of a worker; needs py-spy."
)
def chat(**values: Any) -> None:
    """Pairs of sessions talk, in both directions; the other sessions are idle."""
    check_pairs(values)
    talk = pick(Talk, values)
    options = pick(ChatOptions, {"talk": talk, **values})
    run_bench(values, lambda bench, size: run_chat(bench, size, options))


@main.command()
@with_options(TARGET, WORKERS)
@option("--members", type=click.IntRange(min=2), default=1000, help="All of them online.")
@option("--transport", type=click.Choice(["tcp", "ws"]), default="tcp")
@option("--concurrency", type=POSITIVE, default=64, help="Logins under way at once.")
@option("--prefix", default="member", help="Accounts are named PREFIX0, PREFIX1, ...")
@option("--senders", type=POSITIVE, default=4, help="Members that send.")
@option("--window", type=POSITIVE, default=1, help="Messages of each sender that not everybody has yet.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=74)
@option("--pairs", type=POSITIVE, default=200, help="Pairs that talk one to one, measured first, for comparison.")
@option("--seconds", type=SECONDS, default=10.0, help="How long to measure, each.")
@option("--warm-up-seconds", type=SECONDS, default=2.0)
@option("--drain-seconds", type=SECONDS, default=15.0, help="Longest wait for what is under way.")
def group(members: int, **values: Any) -> None:
    """Members of one group talk to all the others."""
    group = f"#swarm{time.time_ns():x}"
    options = pick(GroupOptions, {"group": group, **values})
    run_bench(
        {**values, "sessions": members, "processes": 1, "floor": False},
        lambda bench, size: run_group(bench, size, options),
    )


@main.command()
@with_options(TARGET, WORKERS)
@option("--pairs", type=POSITIVE, default=200, help="Pairs that talk one to one.")
@option("--rate", type=click.FloatRange(min=1.0), default=2000.0, help="Messages a second in all, in an open loop.")
@option("--askers", type=click.IntRange(min=2), default=400, help="Sessions that ask what is rare.")
@option("--rare-rate", type=click.FloatRange(min=1.0), default=1000.0, help="Their requests a second, in all.")
@option("--rounds", type=POSITIVE, default=4, help="Without and with them, so many times.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=74)
@option("--transport", type=click.Choice(["tcp", "ws"]), default="tcp")
@option("--concurrency", type=POSITIVE, default=64, help="Logins under way at once.")
@option("--prefix", default="swarm", help="Accounts are named PREFIX0, PREFIX1, ...")
@option("--seconds", type=SECONDS, default=5.0, help="How long to measure, without and with them.")
@option("--warm-up-seconds", type=SECONDS, default=1.0)
@option("--drain-seconds", type=SECONDS, default=15.0, help="Longest wait for what is under way.")
def rare(**values: Any) -> None:
    """Contacts, groups and history are asked for beside messages: what that does to the messages' delay."""
    talk = Talk(values["pairs"], 1, values["body_bytes"], ack=True)
    options = pick(RareOptions, {**values, "talk": talk})
    alone = {"sessions": 2 * values["pairs"], "processes": 1, "floor": False, "settings": MANY_CONTACT_REQUESTS}
    run_bench({**values, **alone}, lambda bench, size: run_rare(bench, size, options))


@main.command()
@with_options(TARGET, WORKERS, SIZE, FLOOR)
@option("--seconds", type=SECONDS, default=30.0, help="How long to hold them.")
@option("--rate", "rate_per_second", type=click.FloatRange(min=1.0), help="Messages a second among them meanwhile.")
@option("--pairs", type=POSITIVE, default=500, help="Pairs that talk, where there is a --rate.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=74)
@option("--drain-seconds", type=SECONDS, default=15.0, help="Longest wait for what is under way.")
def idle(**values: Any) -> None:
    """Sessions that only answer keepalive: memory of each in server, kernel and store, CPU of all.

    A million of them: imswarm idle --sessions 1000000 --rate 1000 --concurrency 256.
    """
    pairs = min(values["pairs"], values["sessions"] // 2) if values["rate_per_second"] else 0
    talk = Talk(pairs, 1, values["body_bytes"], ack=True)
    options = pick(
        ChatOptions, {**values, "talk": talk, "warm_up_seconds": _IDLE_WARM_UP, "latency_at": None, "profile": None}
    )
    run_bench(values, lambda bench, size: run_idle(bench, size, options))


@main.command()
@with_options(TARGET, WORKERS, SIZE)
@option("--rounds", type=POSITIVE, default=2, help="In the first one the devices are new.")
@option("--groups", type=click.IntRange(min=0), default=0, help="Everybody is a member of so many.")
def login(rounds: int, groups: int, **values: Any) -> None:
    """Everybody logs in by token and is disconnected again, several times."""
    run_bench({**values, "floor": False}, lambda bench, size: run_login(bench, size, rounds, groups))


@main.command()
@option("--seed", type=int, default=1, help="The same seed gives the same faults.")
@option("--faults", type=click.IntRange(min=0), default=14, help="How many.")
@option("--overlap", type=click.FloatRange(0.0, 1.0), default=0.0, help="How likely a second fault begins during one.")
@option("--minutes", type=click.FloatRange(min=0.01), help="After them nothing more is broken; what was is judged.")
@option("--pause-seconds", type=SECONDS, default=2.0, help="After each fault.")
@option("--only", type=names_of(FAULTS), default=(), help=f"Which kinds: {', '.join(FAULTS)}.")
@option("--users", type=click.IntRange(min=2), default=40)
@option("--devices", type=POSITIVE, default=2, help="Of each user, over TCP and WebSocket.")
@option("--rate", type=click.FloatRange(min=1.0), default=3000.0, help="Messages a second in all, at most.")
@option("--window", type=POSITIVE, default=2, help="Messages outstanding from each device to each partner.")
@option("--body-bytes", type=click.IntRange(1, 60_000), default=80)
@option("--processes", type=click.IntRange(1, 64), default=2, help="Client processes.")
@option("--workers", type=POSITIVE, default=2, help="Workers of the server started here.")
@option("--heal-seconds", type=SECONDS, default=60.0, help="Longest wait, in the end, for everybody to have all.")
@option("--data", type=DIRECTORY, help="Attach to the running server that has this data directory.")
@option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Leave histories and logs there.")
@option(
    "--store",
    type=click.Choice(STORES),
    default=EMBEDDED,
    help="Of the server started here: its own; a redis-server of the run's; one behind a proxy; a cluster, 3 and 3.",
)
@option("--durability", type=click.Choice(get_args(Durability)), default="process", help="Of the server started here.")
@option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Draw the run into this file.")
@option("--mistake", type=click.Choice(MISTAKES), help="Falsify one delivery on purpose: the run must fail.")
@JSON
def faults(as_json: bool, html: Path | None, **values: Any) -> None:
    """Break one thing after the other while users talk; then judge what every device saw.

    Ctrl-C, once, breaks nothing more; what was until then is judged and told.
    """
    progress = Progress()
    with failures_reported(progress), terminable():
        outcome = run_faults(pick(FaultOptions, values), progress)
    show_outcome(outcome, html, as_json=as_json)
    if not outcome.is_good:
        sys.exit(1)


@main.command()
@option("--rate", type=click.FloatRange(min=1.0), default=5000.0, help="Messages a second in all, in an open loop.")
@option("--pairs", type=POSITIVE, default=200, help="Pairs of sessions that talk.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=74)
@option("--restarts", type=POSITIVE, default=2, help="How many times all workers are replaced.")
@option("--calm-seconds", type=SECONDS, default=5.0, help="Measured before, to compare with.")
@option("--workers", type=POSITIVE, default=2)
@option("--processes", type=click.IntRange(1, 64), default=1, help="Client processes.")
@option("--drain-seconds", type=SECONDS, default=2.0, help="Of the server: clients come back over half of it.")
@JSON
def rolling(as_json: bool, **values: Any) -> None:
    """Replace all workers under a steady load: who is refused, what is lost, how long messages take meanwhile."""
    progress = Progress()
    with failures_reported(progress), terminable():
        report = run_rolling(pick(RollingOptions, values), progress)
    print_report(report, as_json)
    if any(report[name] for name in (*WRONG, "false_offline")) or report["probes"]["incidents"]:
        sys.exit(1)


@main.command()
@option("--sessions", type=POSITIVE, default=min(_STORM_SESSIONS, room()), help="As far as descriptors allow.")
@with_options(SIZE[1:])
@option("--event", type=click.Choice(EVENTS), default="kill-worker", help="What is killed, with SIGKILL.")
@option("--pairs", type=POSITIVE, default=200, help="Pairs of sessions that talk.")
@option("--rate", type=click.FloatRange(min=1.0), default=400.0, help="Messages a second in all, in an open loop.")
@option("--body-bytes", type=click.IntRange(1, 60_000), default=80)
@option("--before-seconds", type=SECONDS, default=3.0, help="Talk before the event.")
@option("--after-seconds", type=SECONDS, default=3.0, help="Talk after all is well again.")
@option("--longest-seconds", type=SECONDS, default=90.0, help="Longest wait for all to be well again.")
@option("--workers", type=POSITIVE, default=2, help="Workers of the server started here.")
@option("--data", type=DIRECTORY, help="Attach to the running server that has this data directory.")
@JSON
def storm(as_json: bool, **values: Any) -> None:
    """Kill a worker, or the store, while everybody is connected, and see how all come back."""
    if 2 * values["pairs"] > values["sessions"]:
        raise click.UsageError(f"--sessions {values['sessions']} is too few for --pairs {values['pairs']}")
    progress = Progress()
    with failures_reported(progress), terminable():
        report = run_storm(pick(StormOptions, values), size_of(values), progress)
    print_report(report, as_json)
    if any(report[name] for name in WRONG):
        sys.exit(1)


@main.command()
@option("--readers", type=POSITIVE, default=300, help="Sessions that take nothing of what they are sent.")
@option("--pairs", type=POSITIVE, default=10, help="Pairs of sessions that talk; the readers are their users', too.")
@option("--group", is_flag=True, help="All of them talk in one group.")
@option("--rounds", type=POSITIVE, default=2, help="Without the readers and with them, so many times.")
@option("--rate", type=click.FloatRange(min=1.0), default=500.0, help="Messages a second in all, in an open loop.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=100)
@option("--seconds", type=SECONDS, default=15.0, help="Measured without them, and with them.")
@option("--workers", type=POSITIVE, default=2)
@JSON
def stuck(as_json: bool, **values: Any) -> None:
    """Clients that read nothing: what they cost the server's memory, and everybody else's delay."""
    progress = Progress()
    with failures_reported(progress), terminable():
        report = run_stuck(pick(StuckOptions, values), progress)
    print_report(report, as_json)
    if any(report[name] for name in WRONG):
        sys.exit(1)


@main.command()
@option("--sessions", type=click.IntRange(1, MAX_CONNECTIONS), default=1000, help="Connections.")
@option("--active", type=POSITIVE, default=400, help="Those with a frame under way.")
@option("--seconds", type=SECONDS, default=5.0)
@option("--pin/--no-pin", default=True, help="Server on the lower half of the cores.")
@JSON
def floor(sessions: int, active: int, seconds: float, pin: bool, as_json: bool) -> None:
    """The machine's own limit: an echo server on epoll, without any protocol."""
    with failures_reported(), floor_program() as program:
        cores = split_cores() if pin else Cores()
        result = measure_floor(program, sessions, active, seconds, cores)
    print_report({"scenario": "floor", **asdict(result)}, as_json)


@main.command()
@option("--peers", "names", type=names_of(PEERS), default=tuple(PEERS), help="Which ones.")
@option("--archive/--no-archive", default=True, help="Each also with its archive of messages.")
@option("--sessions", type=POSITIVE, default=2000)
@option("--pairs", type=POSITIVE, default=200, help="Pairs of sessions that talk.")
@option("--window", type=POSITIVE, default=1, help="Messages outstanding in each direction.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=100)
@option("--seconds", type=SECONDS, default=6.0, help="How long to measure, twice: throughput, latency.")
@option("--warm-up-seconds", type=SECONDS, default=2.0)
@option(
    "--rate", "rate_per_second", type=click.FloatRange(min=1.0), default=300.0, help="At which latency is measured."
)
@option("--rounds", type=POSITIVE, default=3, help="All take turns so many times.")
@option("--processes", type=POSITIVE, default=1, help="Client processes.")
@option("--pin/--no-pin", default=True, help="Servers on the lower half of the cores, load on the upper half.")
@JSON
def peers(names: tuple[str, ...], archive: bool, pin: bool, as_json: bool, **values: Any) -> None:
    """Measure imserver and the servers people use today, in turn, with the same pairs and bodies."""
    check_pairs(values)
    progress = Progress()
    with failures_reported(progress), terminable():
        cores = split_cores() if pin else Cores()
        report = run_peers(names, archive, PeersOptions(**values), cores, progress)
    (print_json if as_json else print_comparison)(report)
    exit_if_wrong(report)


for _command in (run, compare, scaling, calibrate, capacity):
    main.add_command(_command)
