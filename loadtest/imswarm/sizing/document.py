"""The tables of docs/capacity.md, between two marks: made from coefficients and prices, never by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imswarm.sizing.model import EVENTS, Coefficients, People, SizingError, errors, predicted_cores
from imswarm.sizing.plan import Plan, Prices, plan

BEGIN, END = "<!-- made by `imswarm capacity --write docs/capacity.md` -->", "<!-- end -->"
_PER_SECOND = {
    "message": "messages one to one",
    "group_delivery": "deliveries in groups",
    "presence_told": "contacts told of presence",
    "login": "logins",
}
USERS = (10_000, 1_000_000, 10_000_000, 100_000_000)


def written(page: str, known: Coefficients, prices: Prices) -> str:
    """The page with its tables made anew. Raises SizingError where it has no marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SizingError(f"the page lacks a line {BEGIN}, or {END} after it")
    return f"{before}{BEGIN}\n\n{tables(known, prices)}\n{END}{after}"


def tables(known: Coefficients, prices: Prices) -> str:
    plans = [plan(People(users=users), known, prices) for users in USERS]
    return "\n".join((*_sizes(plans, prices), *_costs(known), *_checks(known)))


def _sizes(plans: Sequence[Plan], prices: Prices) -> Iterable[str]:
    yield "### How much for how many\n"
    yield _row("", *(f"{each.people.users:,} users" for each in plans))
    yield _row("---", *("---:" for _ in plans))
    for name, values in _figures(plans):
        yield _row(name, *values)
    reserve = prices.reserve
    yield (
        f"\nPrices: {prices.source}, {prices.date}. Hosts: {prices.host.name}; machines of the store: "
        f"{prices.store.name}, one process a core; HAProxy: {prices.balancer.name}. At most {reserve.cpu:.0%} of the "
        f"CPU in the busiest hour, {reserve.spare_hosts} host to spare, {reserve.replicas} replica of each shard.\n"
    )


def _figures(plans: Sequence[Plan]) -> Iterable[tuple[str, list[str]]]:
    needed = [each.needs for each in plans]
    yield "online in the busiest hour", [f"{each.sessions:,.0f}" for each in needed]
    for event, name in _PER_SECOND.items():
        yield f"{name} a second", [f"{each.per_second[event]:,.1f}" for each in needed]
    yield "cores that workers use", [f"{each.server_cores:,.1f}" for each in needed]
    yield "cores that the store uses", [f"{each.redis_cores:,.1f}" for each in needed]
    yield "memory of sessions, kernel included", [_gb(each.server_bytes) for each in needed]
    yield "data in the store", [_gb(each.redis_bytes) for each in needed]
    yield "network, Mbit/s", [f"{each.network_mbit:,.0f}" for each in plans]
    yield "**hosts** (what decides)", [f"**{each.hosts:,}** ({each.limits['hosts']})" for each in plans]
    yield "workers", [f"{each.workers:,}" for each in plans]
    yield "**shards** (what decides)", [f"**{each.shards:,}** ({each.limits['shards']})" for each in plans]
    yield "machines of the store", [f"{each.store_machines:,}" for each in plans]
    yield "HAProxy", [f"{each.balancers:,}" for each in plans]
    yield "dollars a month", [f"{each.dollars_total:,.0f}" for each in plans]
    yield "dollars a year and user", [f"{each.dollars_total * 12 / each.people.users:,.2f}" for each in plans]


def _costs(known: Coefficients) -> Iterable[str]:
    machine = ", ".join(f"{name} {value}" for name, value in known.machine.items())
    yield "### The coefficients\n"
    yield f"Measured {known.date} ({machine}). CPU in microseconds, bytes on the network with TCP's headers.\n"
    yield _row("event", "worker", "store", "network")
    yield _row("---", "---:", "---:", "---:")
    for event in EVENTS:
        cost = known.costs[event]
        name = event.replace("_", " ")
        yield _row(name, f"{cost.server_us:,.1f}", f"{cost.redis_us:,.1f}", f"{cost.network_bytes:,.0f} B")
    yield (
        f"\nA session: {known.session_server_bytes:,.0f} bytes in its worker, {known.session_kernel_bytes:,.0f} in the "
        f"kernel, {known.session_redis_bytes:,.0f} in the store. An account: {known.account_bytes:,.0f}. A message in "
        f"both logs: {known.message_bytes:,.0f}. A worker: {known.worker_bytes / 1e6:,.0f} MB.\n"
    )


def _checks(known: Coefficients) -> Iterable[str]:
    yield "### How far off the model is\n"
    yield _row("run", "sessions", "cores measured", "cores by the model", "error")
    yield _row("---", "---:", "---:", "---:", "---:")
    for check, error in zip(known.checks, errors(known), strict=True):
        predicted = predicted_cores(check.per_second, known)
        yield _row(
            check.what, f"{check.sessions:,}", f"{check.measured_cores:.3f}", f"{predicted:.3f}", f"{error:+.0%}"
        )
    yield ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
