#!/usr/bin/env python3
"""What a small tool costs as a part of the step around it, and what it would cost as a step of its own.

    python3 tests/bench/fold.py --rfs PATH [--rounds N] [--runs N]

The list `fold` of the configuration names programs that cost less as a part than as a step: nobody looks
them up, and nothing is stored of them. For each of a choice of them a shell that always runs runs it some
hundred times, each time with other arguments: bare, as a part of the shell's step (the list as it is), as a
step of its own for the first time (the tool taken out of the list), and served to a shell that has changed.
A tool belongs into the list where a step of its own costs the first build more than a later one gains.
Prints milliseconds a run, medians of interleaved rounds, and exits with 1 where the list is wrong.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

TOOLS = {
    "cat": "cat in >out",
    "sed": "sed s/a/$i/ in >out",
    "grep": "grep -c $i in >out",
    "expr": "expr $i + 1 >out",
    "sort": "sort -k $i in >out",
    "rm": "rm -f gone$i",
    "mkdir": "mkdir -p made/$i",
    "awk": "awk -v i=$i '{print i, $1}' in >out",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rfs", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    rfs = args.rfs.resolve(strict=True)
    wrong = []
    print("| tool | bare | part | first as a step | served | belongs into the list |")
    print("|---|---|---|---|---|---|")
    for tool, command in TOOLS.items():
        bare, part, first, served = measure(rfs, tool, command, args)
        belongs = first - part > part - served
        if not belongs:
            wrong.append(tool)
        figures = " | ".join(f"{ms:.2f}" for ms in (bare, part, first, served))
        print(f"| {tool} | {figures} | {'yes' if belongs else 'no'} |", flush=True)
    return f"the list is wrong about {' '.join(wrong)}" if wrong else 0


def measure(rfs, tool, command, args):
    """Milliseconds a run of the four ways."""
    wrapped = [rfs, "build", "-q", "--"]
    ways = {"bare": [], "part": wrapped, "first": wrapped, "served": wrapped}
    samples = {way: [] for way in ways}
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as top:
            top = pathlib.Path(top)
            for way, prefix in ways.items():
                # What is served is what the way before it has stored.
                place = "first" if way == "served" else way
                workspace = top / place
                (workspace / ".git").mkdir(parents=True, exist_ok=True)
                (workspace / "in").write_text("a b c\n" * 50)
                if place == "first":
                    (workspace / "rfs.toml").write_text(f"[tools]\nfold = ['-{tool}']\n")
                shutil.rmtree(workspace / "made", ignore_errors=True)
                script = f"# {way}\nfor i in $(seq {args.runs}); do\n{command}\ndone\n:"
                env = {**os.environ, "RFS_CACHE_DIR": str(top / f"cache-{place}")}
                began = time.monotonic()
                subprocess.run([*prefix, "sh", "-c", script], cwd=workspace, env=env, check=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                samples[way].append((time.monotonic() - began) * 1000 / args.runs)
    return [statistics.median(samples[way]) for way in ways]


if __name__ == "__main__":
    raise SystemExit(main())
