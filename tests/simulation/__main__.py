"""The command.

    python -m tests.simulation                            the first 10,000 seeds, on all cores
    python -m tests.simulation --seeds 0-9999 --processes 2
    python -m tests.simulation --seed 4711 --verbose      tells one history, step by step
    python -m tests.simulation --groups                   histories of groups, judged as those of `imswarm faults` are

A seed that fails is printed with the shortest schedule that still fails, as a story. The exit code is 1 then.
"""

import argparse
import os
import sys
import time

from tests.simulation.history import fails_like, shortest, story_of
from tests.simulation.many import failing, failing_with_groups, failures_of, prepare
from tests.simulation.planted import HOLES, MUTATIONS
from tests.simulation.schedule import schedule_of


def main() -> int:
    options = _parser().parse_args()
    if options.planted not in (None, *MUTATIONS, *HOLES):
        sys.exit("--planted: one of\n  " + "\n  ".join([*MUTATIONS, *HOLES]))
    prepare(options.planted)
    seeds = range(options.seed, options.seed + 1) if options.seed is not None else options.seeds
    if options.verbose:
        for seed in seeds:
            print(f"seed {seed}:", *story_of(schedule_of(seed)), sep="\n")
        return 0
    return _judge(seeds, options.processes, options.planted, groups=options.groups)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Plays histories chosen by seeds.")
    parser.add_argument("--seeds", type=_seeds, default=range(10_000), metavar="FIRST-LAST")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--verbose", action="store_true", help="tell each history, step by step, instead of judging it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--groups", action="store_true", help="the play of groups, which tells no stories")
    parser.add_argument("--planted", metavar="NAME", help="with this bug in the server, or this known hole looked at")
    return parser


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _judge(seeds: range, processes: int, bug: str | None, *, groups: bool) -> int:
    began = time.monotonic()
    failures = 0
    for seed, failure in failures_of(seeds, processes, bug, failing_with_groups if groups else failing):
        failures += 1
        print(f"seed {seed}: {failure}")
        if failures == 1 and not groups:  # the others mostly have the same cause
            _print_shortest(seed, failure)
    seconds = time.monotonic() - began
    rate = f"{len(seeds) / seconds * 60:,.0f} a minute with {processes} process{'es' if processes > 1 else ''}"
    print(f"{len(seeds):,} histories in {seconds:.0f} s ({rate}): {f'{failures} failed' if failures else 'all passed'}")
    return 1 if failures else 0


def _print_shortest(seed: int, failure: str) -> None:
    short = shortest(schedule_of(seed), fails_like(failure))
    print("the shortest schedule that still fails:", *(f"  {step}" for step in short.steps), sep="\n")
    print("its story:", *(f"  {line}" for line in story_of(short)), sep="\n")
    print(f"the whole of it: python -m tests.simulation --seed {seed} --verbose", flush=True)


if __name__ == "__main__":
    sys.exit(main())
