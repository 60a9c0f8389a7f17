"""Coming in and leaving: register, login by password or token, logout."""

import re
import time

from imserver.errors import BadCredentials, BadRequest, NotAllowed, Unavailable
from imserver.model import START, DeviceId, Place, Position, UserId, parse_device, parse_position, parse_user
from imserver.protocol.commands import Login, Logout, Register
from imserver.protocol.pushes import EMPTY, Welcome
from imserver.routing.trials import Trials
from imserver.security import tokens
from imserver.security.passwords import Passwords
from imserver.session.context import Context
from imserver.session.cursor import is_newer
from imserver.session.identity import Identity
from imserver.session.session import Session
from imserver.store.calls import Attached, Late, Right

LOGIN_TRIES = 16
_CODE = re.compile(r"[a-z0-9-]{1,64}")


class Accounts:
    """Handlers of `register`, `login` and `logout`. `load_keys` MUST have run before a login."""

    def __init__(self, context: Context, passwords: Passwords) -> None:
        self._context = context
        self.passwords = passwords
        self.trials = Trials(context)
        self._keys: dict[str, str] = {}

    async def load_keys(self) -> None:
        """Reads the signing keys, and again now and then: they can be rotated. Raises ServiceError."""
        self._keys = await self._context.store.accounts.signing_keys(*tokens.new_key())

    # -- commands

    def register(self, session: Session, command: Register) -> None:
        """Into the line, if it may."""
        policy = self._context.settings.registration
        if policy == "closed" or (policy == "loopback" and session.channel.host is not None):
            raise NotAllowed("registration is closed here")
        if policy == "invited":
            _invite(command)
        link = self._context.store.link_of(parse_user(command.user))
        self._context.entrance.arrive(session, command, self._register, link, hashes=True)

    def login(self, session: Session, command: Login) -> None:
        """Into the line. What is wrong with it is said before it waits and a password is hashed."""
        parse_device(command.device)
        _since(command)
        _since_of_groups(command)
        link = self._context.store.link_of(_claimed_user(command))
        self._context.entrance.arrive(session, command, self._login, link, hashes=command.token is None)

    # -- when their turn has come

    async def _register(self, session: Session, command: Register) -> None:
        user = parse_user(command.user)
        await self.trials.registration(session)
        invite = _invite(command) if self._context.settings.registration == "invited" else None
        await self._context.store.accounts.register(user, await self.passwords.hash(command.password), invite)
        session.reply(command.ref, EMPTY)

    async def _login(self, session: Session, command: Login) -> None:
        device = parse_device(command.device)
        if self._context.draining:
            session.send_elsewhere()
            return
        session.enter()
        try:
            user, right, expires = await self._authenticate(session, command, device)
            await self._enter(session, command, user, device, right, expires)
        except BaseException:
            session.refused()
            raise

    async def _enter(
        self, session: Session, command: Login, user: UserId, device: DeviceId, right: Right, expires: int
    ) -> None:
        """Into the directory. From then on the place may be expelled, even before this task has heard that it is in."""
        context, place, since = self._context, session.new_place(device), _since(command)
        context.entering[place] = ""
        try:
            attached = await self._attach(session, user, device, place, right)
        finally:
            expelled = context.entering.pop(place)
        if session.is_closed or context.draining:
            context.store.detach(user, place, None)
            session.send_elsewhere()
            return
        identity = Identity(user, device, place, attached.generations, is_bot=attached.is_bot)
        new_device = since is None and attached.cursor is None
        session.welcome(identity, _start(since, attached), attached.last, new_device=new_device)
        session.reply(command.ref, self._welcome(identity, attached, expires))
        if expelled:
            session.expelled(expelled)
            return
        session.takes_resend = command.resend
        if context.store.may_have_lost(context.clock.now):
            session.ask_to_resend()
        assert session.tail is not None
        assert session.following is not None
        if since is not None and is_newer(since, attached.last):
            session.tail.go_back_to(attached.last)
        session.following.enter(attached.groups, _since_of_groups(command))
        session.tail.begin()

    async def _attach(self, session: Session, user: UserId, device: DeviceId, place: Place, right: Right) -> Attached:
        """Of several logins of one device at once, one after the other is done, as long as their clients are there."""
        for _ in range(LOGIN_TRIES):
            try:
                return await self._context.store.attach(user, device, place, right)
            except Late:
                if session.is_closed:
                    raise
        raise Unavailable("this device logs in again and again; try later")

    def logout(self, session: Session, command: Logout) -> None:
        """At once: a task might come after the end of the connection, and then the client would be waited for."""
        session.reply(command.ref, EMPTY)
        session.leave()

    # -- by what right

    async def _authenticate(self, session: Session, command: Login, device: DeviceId) -> tuple[UserId, Right, int]:
        """And until when the token is good (0: a password). Raises BadCredentials, ExpiredToken, RateLimited."""
        if command.token is not None:
            claims = await self._check_token(command.token)
            if claims.device != device or (command.user is not None and parse_user(command.user) != claims.user):
                raise BadCredentials("token: made for another user or device")
            return claims.user, Right(claims.generations), claims.expires
        assert command.password is not None
        user = _claimed_user(command)
        spent = await self.trials.password(session, user)
        known = await self._context.store.accounts.password_hash(user)
        if not await self.passwords.is_right(known, command.password):
            raise BadCredentials("user or password is wrong")
        self.trials.give_back(spent)
        return user, Right(password_hash=known), 0

    async def _check_token(self, token: str) -> tokens.Claims:
        try:
            return tokens.check(self._keys, token, time.time())
        except tokens.UnknownKey:
            await self.load_keys()  # rotated since they were read, perhaps
            return tokens.check(self._keys, token, time.time())

    def _welcome(self, identity: Identity, attached: Attached, expires: int) -> Welcome:
        """With a token that is good for at least as long as the one it came by: a bot's for years."""
        settings = self._context.settings
        expires = max(int(time.time()) + settings.token_lifetime_seconds, expires)
        token = tokens.sign(self._keys, identity.user, identity.device, expires, attached.generations)
        return Welcome(
            identity.user,
            identity.device,
            token,
            expires,
            attached.last.decode(),
            settings.ping_seconds,
            settings.max_frame_bytes,
        )


def _invite(command: Register) -> str:
    """The code, as the store has it. Raises NotAllowed."""
    code = (command.code or "").strip().lower()
    if _CODE.fullmatch(code) is None:
        raise NotAllowed("code: registration needs an invitation here")
    return code


def _claimed_user(command: Login) -> UserId:
    """Who wants to come in: not checked. Raises BadRequest, BadCredentials."""
    if command.token is not None:
        return tokens.claimed_user(command.token)
    if command.user is None or command.password is None:
        raise BadRequest("login needs `user` and `password`, or `token`")
    return parse_user(command.user)


def _since(command: Login) -> Position | None:
    """The position in the user's own log from which the client wants to go on."""
    since = command.since
    if isinstance(since, dict):
        since = since.get("")
    return None if since is None else parse_position(since, "since")


def _since_of_groups(command: Login) -> dict[str, Position]:
    """The same of groups' logs."""
    if not isinstance(command.since, dict):
        return {}
    return {log: parse_position(at, "since") for log, at in command.since.items() if log}


def _start(since: Position | None, attached: Attached) -> Position:
    """Never past the log's end: a position from elsewhere must not hide what comes next."""
    start = since or attached.cursor or START
    return attached.last if is_newer(start, attached.last) else start
