"""Prosody as it is measured: one process, its internal storage, plain passwords, no TLS.

Its garbage collector is set as Lua itself sets it. As Prosody sets it (a new round when memory
has grown by 5 %), a message costs it three times as much; to measure that would flatter us.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from imswarm.peers.launch import Launch, Peer, find_program, of_debian, version_of_debian
from imswarm.peers.sessions import XMPP
from imswarm.peers.xmpp import DOMAIN
from imswarm.peers.xmpp_server import answers, register

_CONFIGURATION = """\
run_as_root = true  -- only relevant where the load test runs as root
pidfile = "{directory}/pid"
data_path = "{directory}/data"
log = {{ {{ levels = {{ min = "error" }}, to = "console" }} }}
network_backend = "epoll"
network_settings = {{ nagle = false }}
gc = {{ mode = "incremental", threshold = 200 }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"
allow_registration = true
default_archive_policy = true
modules_enabled = {{ "roster", "saslauth", "disco", "register_ibr"{archive} }}
modules_disabled = {{ "s2s", "tls" }}
VirtualHost "{domain}"
"""


def _configure(directory: Path, port: int, archive: bool) -> Launch:
    (directory / "data").mkdir()
    text = _CONFIGURATION.format(directory=directory, port=port, domain=DOMAIN, archive=', "mam"' if archive else "")
    (directory / "prosody.cfg.lua").write_text(text)
    program = find_program("prosody") or "prosody"
    return Launch((program, "-F", "--config", str(directory / "prosody.cfg.lua")))


PROSODY = Peer(
    name="prosody",
    program="prosody",
    brought_by=of_debian("prosody"),
    version=partial(version_of_debian, "prosody"),
    configure=_configure,
    is_ready=answers,
    accounts=register,
    dialect=XMPP,
    keeps="until it is delivered, in memory",
    archives="in both users' archives: files that are appended to, not synced",
)
