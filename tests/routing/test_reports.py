"""Reports: bounded for a user, and altogether."""

from tests.session.node import ServerNode
from tests.session.peer import entered, events, world_of


def test_a_user_makes_so_many_reports_in_an_hour() -> None:
    node = ServerNode(world_of("alice", "bob"), "n1", reports_per_hour=2)
    alice = entered(node, "alice")
    heard = [frame for number in range(3) for frame in alice.ask("report", ref=number, user="bob", reason="spam")]
    assert events(heard) == ["ok 0", "ok 1", "err 2 rate-limited"]
    assert list(node.store.world.database.reports) == [("alice", "bob")], "the same again replaces it"


def test_a_full_list_takes_no_more() -> None:
    node = ServerNode(world_of("alice", "bob", "carol"), "n1", reports_max=1)
    alice = entered(node, "alice")
    assert events(alice.ask("report", ref=1, user="bob", reason="spam")) == ["ok 1"]
    assert events(alice.ask("report", ref=2, user="carol", reason="spam")) == ["err 2 overloaded"]
    assert events(alice.ask("report", ref=3, user="bob", reason="worse", messages=[{"at": "1-0", "log": "#G"}])) == [
        "ok 3"
    ]
    (report,) = node.store.world.database.reports.values()
    assert (report.reason, report.messages[0].log) == ("worse", "#g")
