#!/usr/bin/env python3
"""How long real builds take bare, under rfs and under ccache, and whether the results are right.

    python3 tests/bench/run.py [--rounds N] [--projects lua,xz] [--rfs PATH] [--dir DIR] [--json FILE]
    python3 tests/bench/run.py --quick      one round of lua: checks, not figures

In each round every variant is run once, in turn, so that ratios come from the same minutes of the
machine. Each build from clean starts from a fresh copy of the (configured) pristine tree at the same
path, with standard input from /dev/null and output to a log. The table gives the median and the range
over the rounds, and the median of the rounds' ratios to bare. As it goes it checks that each tree
equals the bare one, but for files that are listed with a reason and differ between two bare builds
as well, and that what should come from the cache starts no compiler. Exits with 1 if a check failed.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True  # leave nothing in the source tree
import report
from projects import COMPILERS, PROJECTS
from variants import Bench, CannotGoOn

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--projects", default="lua,zstd,xz,redis,cargo,python")
    parser.add_argument("--rfs", type=pathlib.Path, help="default: build it (release)")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
    parser.add_argument("--dir", type=pathlib.Path, default=target / "bench")
    parser.add_argument("--json", type=pathlib.Path, help="write all samples here")
    parser.add_argument("--pin", metavar="POLICY", help="also first builds with --pin POLICY")
    parser.add_argument("--quick", action="store_true", help="one round of lua")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.projects = 1, "lua"
    args.projects = args.projects.split(",")
    unknown = [name for name in args.projects if name not in PROJECTS]
    if unknown:
        parser.error(f"unknown project {unknown[0]} (known: {', '.join(PROJECTS)})")
    if args.rfs is None:
        subprocess.run(["cargo", "build", "--locked", "--release"], cwd=TOP, check=True)
        args.rfs = target / "release/rfs"
    args.rfs = args.rfs.resolve(strict=True)
    return args


def fetch(names, directory):
    """Puts the pristine sources into `directory`; python's is the standard library's."""
    fetched = [name for name in names if name != "python"]
    if fetched:
        subprocess.run(["sh", HERE / "fetch.sh", directory, *fetched], check=True)
    if "python" in names and not (directory / "python").exists():
        library = pathlib.Path(os.__file__).parent
        for package in ("asyncio", "email", "json", "unittest"):
            shutil.copytree(
                library / package,
                directory / "python" / package,
                ignore=shutil.ignore_patterns("__pycache__"),
            )


def main():
    args = arguments()
    (args.dir / "source").mkdir(parents=True, exist_ok=True)
    fetch(args.projects, (args.dir / "source").resolve())
    results, failures = [], []
    for name in args.projects:
        bench = Bench(PROJECTS[name], args.dir.resolve(), args.rfs, COMPILERS, args.pin)
        try:
            bench.prepare()
            for n in range(args.rounds):
                print(f"{name}: round {n + 1} of {args.rounds}", file=sys.stderr)
                bench.round()
        except CannotGoOn as failure:
            bench.failures.append(str(failure))
        failures += [f"{name}: {failure}" for failure in dict.fromkeys(bench.failures)]
        results.append((name, bench.samples, bench.notes))
    print(report.markdown(results, args.rounds))
    if args.json:
        args.json.write_text(json.dumps(report.as_json(results), indent=1))
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
