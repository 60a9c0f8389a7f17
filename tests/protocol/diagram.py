"""The tables of `imserver.protocol.lifecycle` as diagrams, for docs/architecture.md."""

from collections.abc import Mapping

from imserver.protocol.lifecycle import SESSION, TAIL, Event, State, TailState


def mermaid(table: Mapping[State, Mapping[Event, State]] | Mapping[TailState, Mapping[Event, TailState]]) -> str:
    """A state diagram with one arrow for each entry, as a Markdown code block."""
    arrows = [
        f"    {state.name} --> {after.name}: {event.value}"
        for state, row in table.items()
        for event, after in row.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])


DIAGRAMS = {"session": mermaid(SESSION), "tail": mermaid(TAIL)}

if __name__ == "__main__":
    print("\n\n".join(DIAGRAMS.values()))
