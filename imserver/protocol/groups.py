"""Who may do what in a group: one table, which the store's functions are given row by row, and which the docs show.

The store looks at how actor and target stand to the group, and decides by the row in the same step in which it makes
the change (store/functions/groups.lua): no two changes can contradict each other.
"""

from typing import Literal, NamedTuple

Role = Literal["owner", "admin", "member"]

# How a user stands to a group, as the store writes it.
STANDINGS = {
    "o": "owner",
    "a": "admin",
    "m": "member",
    "i": "invited",
    "b": "banned",
    "v": "a stranger to an open group",
    "-": "a stranger to a closed group",
}
MEMBERS = "oam"
LETTERS: dict[Role, str] = {"owner": "o", "admin": "a", "member": "m"}


class Rule(NamedTuple):
    """Pairs of standings, the actor's before the target's; where an actor concerns itself, both are the same.

    `may`: the pairs for which the action is done. `done`: those for which there is nothing to do, as where a request is
    repeated: it is answered as if it had been done now. All others are refused.
    """

    change: str  # what the group's log calls it
    may: str
    done: str = ""


RULES: dict[str, Rule] = {
    #                 change      may                          done
    "add":    Rule("joined",   "o- ov oi",                 "oo oa om"),  # the first members, by the creator
    "invite": Rule("invited",  "o- ov a- av",              "oi ai oo oa om ao aa am"),
    "join":   Rule("joined",   "ii vv",                    "oo aa mm"),
    "leave":  Rule("left",     "oo aa mm ii",              "-- vv bb"),
    "kick":   Rule("kicked",   "oa om oi am ai",           "o- ov ob a- av ab"),
    "ban":    Rule("banned",   "oa om o- ov oi am a- av ai", "ob ab"),
    "unban":  Rule("unbanned", "ob ab",                    "o- ov oi oo oa om a- av ai ao aa am"),
    "role":   Rule("role",     "oa om"),  # to owner: hands over; the former one is an admin then
    "set":    Rule("set",      "oo aa"),
}  # fmt: skip


def may_post(standing: str, *, announcing: bool) -> bool:
    """`announcing`: `posting` is "admins", as in a broadcast channel."""
    return standing in ("oa" if announcing else MEMBERS)


def may_look(standing: str) -> bool:
    """See what the group is called, and who is in it. To everybody else a closed group does not exist."""
    return standing in "oamiv"


def is_hidden(standing: str) -> bool:
    """Whether the group is to be denied to somebody who stands so to it."""
    return standing == "-"
