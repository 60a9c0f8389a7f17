"""What can be done to a message that was sent: one table, which the docs show.

Each is an entry of its own in the logs that have the message, and names it by sender, device and id. A client that
knows message and amendments, in whatever order they came to it, shows:

- nothing, where there is a deletion;
- else the text of the edit with the newest stamp, and of each user the reaction with the newest stamp. Of equal stamps
  the greater (device, id) counts. The server makes stamps: of one message they grow in the order of the log.
"""

from typing import NamedTuple

from imserver.errors import NotAllowed


class Rule(NamedTuple):
    """Who may do it. `within`: the setting that says for how long, of the author; None: as long as it is kept."""

    ev: str  # what the logs call it
    author: bool
    partner: bool  # the other side of a conversation of two
    group: str  # standings in a group (`groups.STANDINGS`) of those who may do it to messages of others
    within: str | None


RULES: dict[str, Rule] = {
    #                ev          author partner group  within
    "edit":   Rule("edit",     True,  False,  "",    "edit_seconds"),
    "delete": Rule("delete",   True,  False,  "oa",  "delete_seconds"),
    "react":  Rule("reaction", True,  True,   "oam", None),
}  # fmt: skip


def check(action: str, *, is_author: bool, standing: str | None, age_seconds: float, most_seconds: int | None) -> None:
    """Raises NotAllowed. `standing`: in the group, where it is one. `most_seconds`: what `within` is set to."""
    rule = RULES[action]
    if not is_author:
        if rule.partner if standing is None else standing in rule.group:
            return
        raise NotAllowed(f"of: you may not {action} what somebody else has said")
    if most_seconds == 0:
        raise NotAllowed(f"of: this server lets nobody {action} messages")
    if most_seconds is not None and age_seconds > most_seconds:
        raise NotAllowed(f"of: too old to {action}: at most {most_seconds} s are allowed")
