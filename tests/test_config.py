"""Settings: where they come from, what is refused, and with which words."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imserver.config import ConfigError, Settings, load, load_with_sources, settings_table, shown
from imserver.endpoints import HostPort, hide_password, parse_host_port

HOME = {"HOME": "/home/alice"}


def refusal(files: list[Path] | None = None, environ: dict[str, str] | None = None, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(files or [], {**HOME, **(environ or {})}, options)
    return str(caught.value)


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "imserver.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


class TestSources:
    def test_defaults(self) -> None:
        settings = load([], HOME, {})
        assert settings.tcp == HostPort("127.0.0.1", 7400)
        assert settings.registration == "closed"
        assert settings.data == "/home/alice/.local/share/imserver"

    def test_later_sources_win(self, toml: Any) -> None:
        files = [toml("workers = 1\npage_entries = 1\nlog_level = 'error'\ndata = '/a'"), toml("workers = 2", "b.toml")]
        environ = {**HOME, "IMSERVER_WORKERS": "3", "IMSERVER_PAGE_ENTRIES": "3", "OTHER_WORKERS": "9"}
        loaded = load_with_sources(files, environ, {"workers": "4", "tcp": None})
        settings, sources = loaded.settings, loaded.sources
        assert (settings.workers, settings.page_entries, settings.log_level, settings.data) == (4, 3, "error", "/a")
        assert sources["workers"] == "--workers"
        assert sources["page_entries"] == "IMSERVER_PAGE_ENTRIES"
        assert sources["log_level"] == str(files[0])
        assert sources["tcp"] == "default"

    def test_a_later_file_wins(self, toml: Any) -> None:
        assert load([toml("workers = 1", "a.toml"), toml("workers = 2", "b.toml")], HOME, {}).workers == 2

    def test_numbers_in_the_environment(self) -> None:
        settings = load([], {**HOME, "IMSERVER_LEASE_SECONDS": "7.5", "IMSERVER_RATE_BURST": "10"}, {})
        assert (settings.lease_seconds, settings.rate_burst) == (7.5, 10)

    def test_a_list_in_a_file_and_in_text(self, toml: Any) -> None:
        files = [toml('proxy_protocol_from = ["10.0.0.0/28", "fd00::1"]')]
        known = load(files, HOME, {})
        assert known.proxy_protocol_from == ("10.0.0.0/28", "fd00::1/128")
        assert shown(known.proxy_protocol_from) == "10.0.0.0/28, fd00::1/128"
        for text, networks in ((" 127.0.0.1,10.0.0.0/8", ("127.0.0.1/32", "10.0.0.0/8")), ("", ())):
            environ = {**HOME, "IMSERVER_PROXY_PROTOCOL_FROM": text}
            assert load(files, environ, {}).proxy_protocol_from == networks

    @pytest.mark.parametrize("wrong", ['"10.0.0.1/8"', '["10.0.0.0/33"]', '["haproxy"]', "[10]", "10"])
    def test_a_list_with_something_else_in_it(self, toml: Any, wrong: str) -> None:
        said = refusal([toml(f"proxy_protocol_from = {wrong}")])
        assert said.startswith("proxy_protocol_from = ")
        assert "allowed is a list of networks or addresses, like 10.0.0.0/28 or fd00::1" in said

    def test_data_follows_xdg(self) -> None:
        assert load([], {**HOME, "XDG_DATA_HOME": "/data"}, {}).data == "/data/imserver"
        assert load([], {**HOME, "XDG_DATA_HOME": "relative"}, {}).data == "/home/alice/.local/share/imserver"

    def test_data_is_absolute(self) -> None:
        assert load([], HOME, {"data": "here"}).data == str(Path.cwd() / "here")

    @pytest.mark.parametrize("name", ["VENV", "PYTHON", "PORT", "PORT_7400_TCP", "SERVICE_HOST", "SERVICE_PORT_HTTP"])
    def test_variables_of_others_are_left_alone(self, name: str) -> None:
        assert load([], {**HOME, f"IMSERVER_{name}": "tcp://10.0.0.1:7400"}, {}) == load([], HOME, {})


class TestRefusals:
    """Each names the setting, where it came from, the value, and what is allowed."""

    def test_out_of_bounds(self) -> None:
        assert refusal(workers="-1") == "workers = '-1' (--workers): allowed is integer, 0 to 1024"

    def test_from_the_environment(self) -> None:
        text = refusal(environ={"IMSERVER_LEASE_SECONDS": "nan"})
        assert text == "lease_seconds = 'nan' (IMSERVER_LEASE_SECONDS): allowed is 4 to 600 seconds"

    def test_from_a_file(self, toml: Any) -> None:
        path = toml("registration = 'public'")
        assert refusal([path]) == f"registration = 'public' ({path}): allowed is closed | loopback | invited | open"

    @pytest.mark.parametrize("value", ["'4'", "true", "4.5", "[4]", "2000", "{a = 1}", "2026-01-01"])
    def test_a_file_knows_types(self, toml: Any, value: str) -> None:
        assert "allowed is integer, 0 to 1024" in refusal([toml(f"workers = {value}")])

    @pytest.mark.parametrize("value", ["", " 4", "4 workers", "four", "0x4", "inf", "1" * 5000])
    def test_no_number(self, value: str) -> None:
        assert "allowed is integer, 0 to 1024" in refusal(environ={"IMSERVER_WORKERS": value})

    def test_unknown(self, toml: Any) -> None:
        assert (
            refusal(environ={"IMSERVER_WORKER": "4"}) == "worker (IMSERVER_WORKER): no such setting; nearest: workers"
        )
        path = toml("max-frame-bytes = 1")
        assert refusal([path]).startswith(f"max-frame-bytes ({path}): no such setting; nearest: max_frame_bytes")
        assert refusal(environ={"IMSERVER_ZZZ": ""}).endswith("no such setting; `imserver config` prints all")

    def test_all_at_once(self) -> None:
        assert len(refusal(environ={"IMSERVER_TPC": "x", "IMSERVER_WORKERS": "x"}, data="").splitlines()) == 3

    @pytest.mark.parametrize("text", ["workers", "workers = ", b"\xff", "workers = 1\nworkers = 2"])
    def test_not_toml(self, toml: Any, text: str | bytes) -> None:
        path = toml(text)
        assert refusal([path]).startswith(f"settings file {path}: ")

    def test_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "absent.toml"
        assert refusal([path]) == f"settings file {path}: No such file or directory"

    def test_contradictions(self) -> None:
        assert refusal(out_buffer_bytes="100000") == (
            "out_buffer_bytes = 100000: allowed is at least twice max_frame_bytes, 131072"
        )
        assert "less than lease_seconds, 4.0" in refusal(lease_seconds="4", probe_seconds="5")
        assert refusal(durability="replica").startswith("durability = replica: the embedded store has no replica")
        assert load([], HOME, {"durability": "replica", "redis": "redis://h"}).durability == "replica"
        assert refusal(http="127.0.0.1:7400").startswith("http = 127.0.0.1:7400: tcp listens there")

    def test_free_ports_do_not_contradict(self) -> None:
        settings = load([], HOME, dict.fromkeys(("tcp", "http", "admin"), "127.0.0.1:0"))
        assert settings.tcp == settings.http == settings.admin

    def test_the_store_s_password_is_not_repeated(self) -> None:
        text = refusal(redis="http://im:geheim@h")
        assert "geheim" not in text
        assert "http://im:***@h" in text


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("127.0.0.1:7400", HostPort("127.0.0.1", 7400)),
            ("im.example.org:0", HostPort("im.example.org", 0)),
            ("[::1]:65535", HostPort("::1", 65_535)),
            ("[0:0::0]:1", HostPort("::", 1)),
        ],
    )
    def test_good(self, text: str, address: HostPort) -> None:
        assert parse_host_port(text) == address
        assert parse_host_port(str(address)) == address

    @pytest.mark.parametrize(
        "text",
        ["", "7400", ":7400", "host", "host:", "host:65536", "host:-1", "::1:7400", "[::1]", "[x]:1", "10.0.0.300:1"]
        + ["h:1:1", "a b:1", "*:1", "h:1\n", "h:\u0661", "10.0:1"],
    )
    def test_bad(self, text: str) -> None:
        assert refusal(tcp=text).endswith("allowed is HOST:PORT or [IPV6]:PORT, port 0 to 65535")

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        try:
            address = parse_host_port(text)
        except ValueError:
            return
        assert parse_host_port(str(address)) == address

    @pytest.mark.parametrize(
        "url",
        ["", "redis://h", "redis://h:6379/0", "rediss://im:pw@h:1/15", "redis://[::1]:6379", "unix:///run/redis.sock"]
        + ["redis://a:1,redis://:pw@b:2"],
    )
    def test_good_store(self, url: str) -> None:
        assert load([], HOME, {"redis": url}).redis == url

    @pytest.mark.parametrize(
        "url",
        ["h:6379", "redis:", "redis://", "redis://h:x", "redis://h:99999", "redis://h/name", "http://h"]
        + ["unix://host/path", "unix:relative", "redis://[::1", "redis://a:1,b:2", "redis://a:1,"],
    )
    def test_bad_store(self, url: str) -> None:
        assert "allowed is redis://HOST:PORT/DB" in refusal(redis=url)

    @pytest.mark.parametrize(
        ("url", "hidden"),
        [
            ("redis://h:6379/0", "redis://h:6379/0"),
            ("redis://:pw@h", "redis://:***@h"),
            ("no link to redis://im:a/b:c@d@h/0, sorry", "no link to redis://im:***@h/0, sorry"),
            ("redis://h/0?password=pw&x=1", "redis://h/0?password=***&x=1"),
        ],
    )
    def test_hide_password(self, url: str, hidden: str) -> None:
        assert hide_password(url) == hidden


class TestForWorkers:
    def test_json_and_back(self) -> None:
        settings = load([], HOME, {"tcp": "[::1]:0", "redis": "unix:///s", "workers": "3", "drain_seconds": "0.5"})
        line = json.dumps(msgspec.to_builtins(settings))
        assert msgspec.convert(json.loads(line), Settings) == settings
        assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings

    def test_what_another_version_sends_is_refused(self) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"colour": "red"}, Settings)


class TestTable:
    def test_every_setting_is_described(self) -> None:
        for setting in settings_table():
            assert setting.meaning, setting.name
            assert setting.allowed, setting.name

    @pytest.mark.parametrize("setting", settings_table(), ids=lambda setting: setting.name)
    def test_defaults_are_allowed(self, setting: Any) -> None:
        load([], HOME, {setting.name: str(shown(setting.default))})
