"""Groups: whatever happens on the way, each member is given what its memberships entitle it to, in one order."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from imswarm.history import Change, Deliver, Fail, Invoke, Ok, Unknown

from imserver.session.following import Following
from imserver.session.tail import Tail
from tests.model_groups import GroupDatabase
from tests.simulation.group_play import GroupPlay, failure_of
from tests.simulation.many import failing_with_groups, failures_of

SEEDS = range(5_000 if os.environ.get("CI") else 300)
ENOUGH = range(300)  # seeds within which a bug has to show


@pytest.mark.timeout(600)
def test_all_promises_are_kept() -> None:
    failed = list(failures_of(SEEDS, os.cpu_count() or 1, failing=failing_with_groups))
    assert not failed, f"python -m tests.simulation --groups --seed {failed[0][0]}: {failed[0][1]}"


def test_a_seed_is_a_history() -> None:
    plays = [GroupPlay(7) for _ in range(2)]
    for play in plays:
        play.play(120)
    one, other = ([member.lines for member in play.members] for play in plays)
    assert one == other


def test_all_that_may_happen_does() -> None:
    lines: Counter[type] = Counter()
    changes: Counter[str] = Counter()
    for seed in range(60):
        play = GroupPlay(seed)
        play.play(120)
        for member in play.members:
            lines.update(map(type, member.lines))
            changes.update(line.change for line in member.lines if isinstance(line, Change))
    assert all(lines[kind] > 50 for kind in (Invoke, Ok, Fail, Unknown, Deliver, Change)), lines
    assert all(changes[kind] > 5 for kind in ("joined", "left", "kicked")), changes


# -- does it find what it is for?


def do_nothing(*_: Any) -> None:
    """What should happen here does not."""


def from_the_end(follow: Callable[..., Any]) -> Callable[..., Any]:
    def planted(*arguments: Any) -> Any:
        followed = follow(*arguments)
        return followed if followed.since is None else followed._replace(start=followed.end, surplus=0)

    return planted


def without_dedupe(post: Callable[..., Any]) -> Callable[..., Any]:
    def planted(self: GroupDatabase, group: Any, *arguments: Any) -> Any:
        if group in self.groups:
            self._account(group).seen.clear()
        return post(self, group, *arguments)

    return planted


BUGS: dict[str, tuple[type, str, Callable[..., Any], str]] = {
    "who was away is given what comes, not what came": (GroupDatabase, "follow", from_the_end, "never"),
    "no dedupe in groups": (GroupDatabase, "post", without_dedupe, "doubled"),
    "who is thrown out stays a member": (GroupDatabase, "_remove", lambda _: do_nothing, "rest"),
    "no group is listed with its members": (GroupDatabase, "enlist", lambda _: do_nothing, "rest"),
    "a session does not hear that it joined": (Following, "_on_own_event", lambda _: do_nothing, "rest"),
    "a session goes on after it left": (Following, "_drop", lambda _: do_nothing, ""),
    "a lost link is not made up for": (Tail, "ends_at", lambda _: do_nothing, "never"),
}


@pytest.mark.parametrize("name", BUGS)
def test_finds_planted_bugs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, spoil, sign = BUGS[name]
    monkeypatch.setattr(owner, attribute, spoil(getattr(owner, attribute)))
    failure = next((found for seed in ENOUGH if (found := failure_of(seed))), "")
    assert failure
    assert sign in failure
    assert not failure.startswith("TypeError"), "that it can't even be called proves nothing"
