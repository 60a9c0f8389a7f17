"""ejabberd as it is measured: one node without distribution, Mnesia, plain passwords, no TLS."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from imswarm.peers.launch import Launch, Peer, find_program, of_debian, version_of_debian
from imswarm.peers.sessions import XMPP
from imswarm.peers.xmpp import DOMAIN
from imswarm.peers.xmpp_server import answers, register

_CONFIGURATION = """\
hosts: [{domain}]
loglevel: error
auth_method: internal
auth_password_format: plain
disable_sasl_mechanisms: [digest-md5, scram-sha-1, x-oauth2]
registration_timeout: infinity
listen:
  - {{ port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, backlog: 1024 }}
access_rules:
  everybody: {{ allow: all }}
modules:
  mod_roster: {{}}
  mod_disco: {{}}
  mod_offline: {{}}
  mod_register: {{ access: everybody, ip_access: everybody, registration_watchers: [], welcome_message: {{}} }}
{archive}"""

_ARCHIVE = "  mod_mam: { db_type: mnesia, default: always }\n"

_RUNTIME = ("+K", "true", "+P", "250000", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")
"""A scheduler that has nothing to do must not spin: it would be counted as work."""


def _configure(directory: Path, port: int, archive: bool) -> Launch:
    """Not by `ejabberdctl`, which needs the package's user, a node name and a name server for it."""
    configuration = directory / "ejabberd.yml"
    configuration.write_text(_CONFIGURATION.format(domain=DOMAIN, port=port, archive=_ARCHIVE if archive else ""))
    (directory / "mnesia").mkdir()
    command = (find_program("erl") or "erl", "-noinput", *_RUNTIME, "-mnesia", "dir", f'"{directory}/mnesia"')
    environment = {
        "EJABBERD_CONFIG_PATH": str(configuration),
        "EJABBERD_LOG_PATH": str(directory / "ejabberd.log"),
        "ERL_LIBS": _libraries(),
        "ERL_MAX_PORTS": "32000",
        "ERL_CRASH_DUMP_BYTES": "0",
    }
    return Launch((*command, "-s", "ejabberd"), environment)


def _libraries() -> str:
    """Where Debian has Erlang's libraries that are no part of Erlang: /usr/lib/ARCHITECTURE."""
    return os.pathsep.join(sorted({str(found.parent) for found in Path("/usr/lib").glob("*/ejabberd-*")}))


EJABBERD = Peer(
    name="ejabberd",
    program="ejabberdctl",
    brought_by=of_debian("ejabberd"),
    version=partial(version_of_debian, "ejabberd"),
    configure=_configure,
    is_ready=answers,
    accounts=register,
    dialect=XMPP,
    keeps="until it is delivered, in memory",
    archives="in both users' archives: Mnesia tables on disk, not synced",
)
