"""What a user shows, when several devices show something each.

The store follows this order in one atomic step (store/functions/presence.lua, `aggregate`).
"""

from typing import Literal

Show = Literal["online", "away", "busy", "invisible"]  # what a device says

# The most reachable device speaks for its user; of several that show the same, the one that logged in last. An
# invisible device does not speak: a user with no other one looks offline.
REACHABILITY = ("online", "busy", "away", "offline")
