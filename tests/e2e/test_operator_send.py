"""`imserver send`: what scripts say in somebody's name."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imserver.admin import open_admin
from imserver.config import Settings
from imserver.errors import NotAllowed, TooLarge, Unavailable
from imserver.operator_send import send
from imserver.store.partitions import user_keys
from tests.conftest import required
from tests.e2e.client import TcpClient
from tests.server import Server
from tests.store.redis_process import RedisProcess, cluster, replica_of, running

Names = Callable[[str], str]
Tcp = Callable[[], TcpClient]


@pytest.fixture
def pair(tcp: Tcp, user: Names) -> tuple[str, str]:
    names = user("ann"), user("bob")
    for name in names:
        tcp().register(name)
    return names


def test_it_is_stored_for_both_and_told_at_once(shared: Server, tcp: Tcp, pair: tuple[str, str]) -> None:
    ann, bob = pair
    at_ann, at_bob = tcp(), tcp()
    at_ann.enter(ann, "desk")
    at_bob.enter(bob, "desk")
    stored = json.loads(shared.cli("send", ann, bob, "the disk is full", "--json"))
    heard, own = at_bob.hear("msg"), at_ann.hear("msg")
    assert (heard["from"], heard["device"], heard["to"]) == (ann, "imserver-send", bob)
    assert heard["body"] == "the disk is full"
    assert (own["at"], own["id"], heard["id"]) == (stored["at"], stored["id"], stored["id"])


def test_the_same_id_is_stored_once(shared: Server, tcp: Tcp, pair: tuple[str, str]) -> None:
    ann, bob = pair
    said = [shared.cli("send", ann, bob, "-", "--id", "backup-7", "--json", stdin="done\n") for _ in range(2)]
    assert said[0] == said[1]
    shared.cli("send", ann, bob, "another")
    assert [frame["body"] for frame in tcp().enter(bob, "desk")] == ["done", "another"]
    assert [frame["body"] for frame in tcp().enter(ann, "desk")] == ["done", "another"]


def test_to_a_group_of_which_the_sender_is_a_member(shared: Server, tcp: Tcp, pair: tuple[str, str]) -> None:
    ann, bob = pair
    at_ann = tcp()
    at_ann.enter(ann, "desk")
    group = at_ann.ask("group.create", name="Tea")["group"]
    for _ in range(2):
        shared.cli("send", ann, group, "four o'clock", "--id", "tea-1")
    assert at_ann.hear("msg")["body"] == "four o'clock"
    assert at_ann.ask("history", **{"with": group})["messages"][-1]["id"] == "tea-1"
    assert "no member" in refusal(shared, bob, group, "me, too")


def test_a_bot_is_marked_as_one(shared: Server, tcp: Tcp, user: Names, pair: tuple[str, str]) -> None:
    _, bob = pair
    at_bob = tcp()
    at_bob.enter(bob, "desk")
    assert at_bob.ask("privacy", write="contacts")["write"] == "contacts"
    robot = user("robot")
    shared.cli("bot", "add", robot)
    shared.cli("send", robot, bob, "ticket 7 is done")
    assert at_bob.hear("msg")["bot"] is True
    at_bob.ask("block", user=robot)
    assert "takes no messages from you" in refusal(shared, robot, bob, "hello?")


def test_to_oneself(shared: Server, tcp: Tcp, pair: tuple[str, str]) -> None:
    ann, _ = pair
    shared.cli("send", ann, ann, "a note")
    assert [frame["body"] for frame in tcp().enter(ann, "desk")] == ["a note"]


def refusal(server: Server, *arguments: str) -> str:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        server.cli("send", *arguments)
    assert failure.value.returncode == 1
    return str(failure.value.stderr)


def test_what_can_not_be_is_refused(shared: Server, pair: tuple[str, str]) -> None:
    ann, bob = pair
    assert "FROM: " in refusal(shared, "Ann Smith", bob, "x")
    assert "TO: " in refusal(shared, ann, "Bob Smith", "x")
    assert "TEXT: the character U+0007" in refusal(shared, ann, bob, "\a")
    assert "--id: " in refusal(shared, ann, bob, "x", "--id", "ü")
    assert "there is no such user" in refusal(shared, ann, f"{bob}.nobody", "x")
    assert "there is no user" in refusal(shared, f"{ann}.nobody", bob, "x")


# -- whether a server runs or not


def test_on_a_cluster_both_slots_have_it(tmp_path: Path) -> None:
    with cluster(required("redis-server"), tmp_path) as primaries:
        settings = Settings(redis=primaries[0].url, password_memory_kib=1024, password_rounds=1)
        with open_admin(settings) as admin:
            names = [f"user{number}" for number in range(8)]
            for name in names:
                admin.user_add(name, "secret")
            stored = [send(admin, names[0], name, "hi", f"m-{name}") for name in names]
            assert stored == [send(admin, names[0], name, "hi", f"m-{name}") for name in names]
            admin.user_disable(names[1])
            with pytest.raises(NotAllowed, match="disabled"):
                send(admin, names[1], names[2], "hi", "m")
            with pytest.raises(TooLarge, match="65536 are allowed"):
                send(admin, names[0], names[2], "x" * 65536, "m")


def test_with_replicas_it_is_stored_once_one_has_it(tmp_path: Path) -> None:
    with running(RedisProcess(required("redis-server"), tmp_path / "primary")) as primary:
        settings = Settings(redis=primary.url, durability="replica", password_memory_kib=1024, password_rounds=1)
        with open_admin(settings) as admin:
            admin.user_add("ann", "secret")
            with pytest.raises(Unavailable, match="same --id"):
                send(admin, "ann", "ann", "hi", "m")
            with replica_of(primary, tmp_path) as replica:
                stored = send(admin, "ann", "ann", "hi", "m")
                with replica.client() as client:
                    assert [at.decode() for at, _ in client.xrange(user_keys("ann").log)] == [stored.at]
