"""Whether everybody heard what was said: the one judge of all fault tests. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

Heard = tuple[str, str]  # the talk, and the id of the message


class Talk(NamedTuple):
    """What one device said to one user: the ids in the order sent, and those that the server acknowledged."""

    said: Sequence[str]
    acknowledged: Collection[str]


def judge(
    talks: Mapping[str, Talk], heard: Mapping[str, Sequence[Heard]], audience: Mapping[str, Collection[str]]
) -> list[str]:
    """What is wrong, in words; nothing if all is well.

    `heard`: what each device heard, in its order. `audience`: to which talks it listens. Of each of them it MUST have
    heard everything acknowledged, in the order said, once; a message that was said and never acknowledged it may have
    heard, once and in its place; nothing else.
    """
    faults = []
    for device, listens in audience.items():
        of_talk: dict[str, list[str]] = {talk: [] for talk in listens}
        for talk, message_id in heard.get(device, ()):
            if talk in of_talk and message_id in talks[talk].said:
                of_talk[talk].append(message_id)
            else:
                faults.append(f"{device}: phantom {talk} {message_id}")
        for talk, ids in of_talk.items():
            faults += [f"{device}: {fault}" for fault in _faults_of_talk(talk, talks[talk], ids)]
    return faults


def _faults_of_talk(name: str, talk: Talk, heard: Sequence[str]) -> list[str]:
    place = {message_id: number for number, message_id in enumerate(talk.said)}
    lost = [message_id for message_id in talk.said if message_id in talk.acknowledged and message_id not in heard]
    faults = [f"lost {name} {message_id}" for message_id in lost]
    seen: set[str] = set()
    last = -1
    for message_id in heard:
        if message_id in seen:
            faults.append(f"doubled {name} {message_id}")
        elif place[message_id] < last:
            faults.append(f"swapped {name} {message_id}")
        seen.add(message_id)
        last = max(last, place[message_id])
    return faults
