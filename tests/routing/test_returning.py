"""After a lost link thousands of sessions ask whether they are still in the directory, and messages go on meanwhile."""

from imserver.routing.returning import AT_ONCE
from tests.model_store import Link
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, events, world_of

USERS = [f"user{number}" for number in range(3 * AT_ONCE)]


def crowded() -> tuple[ServerNode, dict[str, Peer], Link]:
    node = ServerNode(world_of(*USERS), "n1")
    return node, {user: entered(node, user) for user in USERS}, node.store.links[0]


def come_back(link: Link) -> None:
    link.restore()
    link.restore()


def asking(link: Link) -> int:
    return sum(call.name == "attach_again" for call in link.calls)


def test_a_bounded_number_asks_at_once_and_in_the_end_all_have() -> None:
    node, _, link = crowded()
    link.cut()
    come_back(link)
    assert asking(link) == AT_ONCE
    asked, most = 0, 0
    while link.execute():
        asked += asking(link) > 0
        node.deliver(0)
        most = max(most, asking(link))
    assert (asked, most) == (len(USERS), AT_ONCE)


def test_what_was_missed_is_read_by_all_and_a_message_stands_behind_a_bounded_number_of_calls() -> None:
    node, peers, link = crowded()
    other = ServerNode(node.store.world, "n2")
    node.store.world.database.register("eve", "")
    eve = entered(other, "eve")
    link.cut()
    for user in USERS:
        eve.ask("send", id=user, to=user, body="x")
    come_back(link)
    sender, recipient = peers[USERS[-1]], peers[USERS[-2]]
    sender.say("send", ref=1, id="c1", to=USERS[-2], body="x")
    node.turn()
    assert [call.name for call in link.calls].index("append_both") <= AT_ONCE
    node.settle()
    assert events(sender.hear()) == [f"msg {USERS[-1]}", "ok 1"]
    assert events(recipient.hear()) == [f"msg {USERS[-2]}", "msg c1"]
    assert all(events(peers[user].hear()) == [f"msg {user}"] for user in USERS[:-2])


def test_a_link_lost_again_meanwhile_begins_anew() -> None:
    node, peers, link = crowded()
    other = ServerNode(node.store.world, "n2")
    node.store.world.database.register("eve", "")
    eve = entered(other, "eve")
    link.cut()
    come_back(link)
    for _ in range(10):  # these have asked; what comes now they miss again
        link.execute()
        node.deliver(0)
    link.cut()
    for user in USERS:
        eve.ask("send", id=user, to=user, body="x")
    come_back(link)
    node.settle()
    assert all(events(peers[user].hear()) == [f"msg {user}"] for user in USERS)
