"""The slower command: many cases of every target, each made from its own seed, so that a failing one can be had again."""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the cases and print what failed. Returns 1 where something did."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only these; all when left out")
    parser.add_argument("--cases", type=int, default=100_000, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--show", type=int, default=10, help="failures of one kind that are printed")
    options = parser.parse_args()
    chosen = options.target or list(TARGETS)
    began, failed, kinds = time.monotonic(), 0, Counter[str]()
    for number in range(options.cases):
        name, seed = chosen[number % len(chosen)], options.seed + number // len(chosen)
        try:
            case, wrong = TARGETS[name](random.Random(seed))
        except Exception as error:
            case = None
            wrong = "".join(traceback.format_exception(error)[-3:]) if options.cases == 1 else f"{type(error).__name__}: {str(error)[:200]}"
        if wrong is not None:
            failed += 1
            kind = f"{name}: {wrong[:80]}"
            kinds[kind] += 1
            if kinds[kind] <= options.show:
                print(f"{name} --seed {seed}: {wrong}" + (f"\n    {str(case)[:1500]}" if options.cases == 1 else ""))
    seconds = time.monotonic() - began
    print(f"{options.cases} cases of {', '.join(chosen)}, {failed} failed, {seconds:.0f} s")
    for kind, count in kinds.most_common(20):
        print(f"  {count:6d} {kind}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
