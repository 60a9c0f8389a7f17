"""Who takes part: imserver, and every peer with and without its archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from imswarm import client_process
from imswarm.accounts import make_accounts, make_password_accounts
from imswarm.client_process import Dialect
from imswarm.deployment import Deployment, started
from imswarm.peers.centrifugo import CENTRIFUGO
from imswarm.peers.ejabberd import EJABBERD
from imswarm.peers.launch import Peer, launched
from imswarm.peers.prosody import PROSODY
from imswarm.population import Account

PEERS = {peer.name: peer for peer in (EJABBERD, PROSODY, CENTRIFUGO)}

IMSERVER = "imserver"
_PASSWORD = "correct horse"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server as it is measured."""

    name: str
    version: str
    keeps: str
    """What becomes of a message."""
    start: Callable[[frozenset[int] | None], AbstractContextManager[Deployment]]
    """On these cores; raises DeploymentError."""
    accounts: Callable[[Deployment, str, int], list[Account]]
    """Named by a prefix, so many."""
    dialect: Dialect
    acknowledges: bool
    """Whether a client tells what it has got."""
    password_accounts: Callable[[Deployment, str, int], list[Account]] | None = None
    """Accounts for logins by password, where there is another way."""


def contenders(peers: Sequence[Peer], with_archive: bool) -> list[Contender]:
    """Imserver first; the peers must not be missing."""
    kinds = (False, True) if with_archive else (False,)
    return [_imserver(), *(_peer(peer, archive) for peer in peers for archive in kinds)]


def _imserver() -> Contender:
    return Contender(
        name=IMSERVER,
        version=version(IMSERVER),
        keeps="in both users' logs in Redis, written to its append-only file before the acknowledgement",
        start=partial(started, 1, None),
        accounts=lambda deployment, prefix, count: make_accounts(deployment.redis_url, prefix, count),
        dialect=client_process.IMSERVER,
        acknowledges=True,
        password_accounts=_password_accounts,
    )


def _password_accounts(deployment: Deployment, prefix: str, count: int) -> list[Account]:
    return make_password_accounts(deployment.redis_url, prefix, count, _PASSWORD)


def _peer(peer: Peer, archive: bool) -> Contender:
    return Contender(
        name=f"{peer.name}+archive" if archive else peer.name,
        version=peer.version(),
        keeps=peer.archives if archive else peer.keeps,
        start=partial(launched, peer, archive),
        accounts=lambda deployment, prefix, count: peer.accounts(deployment.target("tcp"), prefix, count),
        dialect=peer.dialect,
        acknowledges=False,
    )
