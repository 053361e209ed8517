"""Draws models, compiles them and compares: `python -m tests.fuzz --help`."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.families import FAMILIES
from tests.fuzz.run import RELATIONS_EVERY, run


def main() -> int:
    """The exit status is 1 if a result is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("family", nargs="?", choices=sorted(FAMILIES), help="one family; all by their shares if absent")
    parser.add_argument("seed", nargs="?", type=int, help="one seed of it")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=1000, help="how many seeds")
    parser.add_argument("--step", type=int, default=1, help="distance of seeds, so that processes can share a run")
    parser.add_argument("--threads", type=int, help="threads to compile for; 1 and 2 in turn if absent")
    parser.add_argument(
        "--relations", type=int, default=RELATIONS_EVERY, help="hold one of so many models against all relations"
    )
    parser.add_argument("--target", default="cpu", help="what to compile for; this machine has to be able to run it")
    parser.add_argument("--quiet", action="store_true", help="print failures and the summary only")
    options = parser.parse_args()
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    else:
        seeds = range(options.start, options.start + options.count, options.step)

    def say(text: str) -> None:
        if not options.quiet or not text.startswith("["):
            print(text, flush=True)

    tally = run(seeds, options.threads, options.family, say, options.relations, options.target)
    print(tally.summary())
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
