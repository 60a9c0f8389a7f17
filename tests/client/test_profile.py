"""What is remembered on disk, and which device a program is."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from imclient.address import parse_url
from imclient.profile import Profile
from imclient.slots import account_directory, claim

from imserver.errors import BadRequest, SetupError

ALICE = parse_url("alice@localhost")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


# -- profiles


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "profile.json"
    profile = Profile.load(path, reader="chat")
    assert (profile.token, profile.cursors, profile.farthest) == (None, {}, {})
    profile.update("token", {"": "5-0"})
    profile.save()
    again = Profile.load(path, reader="chat")
    assert (again.device, again.token, again.cursors) == (profile.device, "token", {"": "5-0"})
    assert [file.name for file in path.parent.iterdir()] == ["profile.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_reader_has_its_own_cursors(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    for reader, at in (("chat", "9-0"), ("tail", "10-0")):
        profile = Profile.load(path, reader=reader)
        profile.update("token", {"": at, f"#{reader}": "1-0"})
        profile.save()
    profile = Profile.load(path, reader="send")
    assert profile.cursors == {}
    assert profile.farthest == {"": "10-0", "#chat": "1-0", "#tail": "1-0"}


def test_new_devices_differ(tmp_path: Path) -> None:
    one, two = Profile.load(tmp_path / "1"), Profile.load(tmp_path / "2")
    assert one.device != two.device
    assert Profile.load(tmp_path / "3", device="desk").device == "desk"


@pytest.mark.parametrize("content", [b"", b"{", b'{"device":5}', b"\xff"])
def test_a_damaged_profile_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(content)
    with pytest.raises(SetupError, match=r"profile\.json is not a profile of imclient .* mend it or delete it"):
        Profile.load(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    profile = Profile.load(tmp_path / "profile.json")
    profile._path = tmp_path / "file" / "profile.json"
    with pytest.raises(SetupError, match=r"file/profile\.json can't be written"):
        profile.save()


# -- slots


def test_programs_at_the_same_time_are_different_devices() -> None:
    with claim(ALICE, "chat") as first, claim(ALICE, "chat") as second:
        first.save()
        second.save()
        assert first.device != second.device


def test_programs_in_turn_are_the_same_device() -> None:
    with claim(ALICE, "chat") as profile:
        profile.save()
    with claim(ALICE, "tail") as again:
        assert again.device == profile.device


def test_the_first_free_slot_is_taken() -> None:
    devices = []
    with ExitStack() as others, ExitStack() as rest:
        for stack in (rest, others, rest):
            profile = stack.enter_context(claim(ALICE, "chat"))
            profile.save()
            devices.append(profile.device)
        others.close()
        with claim(ALICE, "chat") as again:
            assert again.device == devices[1]


def test_a_named_device_is_claimed_once() -> None:
    with claim(ALICE, "chat", "desk") as profile:
        assert profile.device == "desk"
        with (
            pytest.raises(SetupError, match="the device desk is in use by another imclient"),
            claim(ALICE, "x", "desk"),
        ):
            pass
    with pytest.raises(BadRequest, match="device: 'a/b' is not a device name"), claim(ALICE, "chat", "a/b"):
        pass


def test_accounts_are_kept_apart(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert account_directory(ALICE) == state / "imclient" / "alice@localhost:7400"
    assert account_directory(parse_url("alice@localhost:99")) != account_directory(ALICE)
    monkeypatch.delenv("XDG_STATE_HOME")
    assert account_directory(ALICE) == Path.home() / ".local/state/imclient/alice@localhost:7400"


def test_a_directory_that_cannot_be_made_is_named(state: Path) -> None:
    (state / "imclient").write_text("")
    with pytest.raises(SetupError, match=r"1\.lock can't be used: Not a directory"), claim(ALICE, "chat"):
        pass
