#!/usr/bin/env python3
"""What a small tool costs as a part of the step around it, and what it would cost as a step of its own.

    python3 tests/bench/fold.py --rfs PATH [--rounds N] [--runs N] [--tools NAME,...] [--quick]

The list `fold` of the configuration names programs that cost less as a part than as a step: nobody looks
them up, and nothing is stored of them. For each of a choice of them a shell that always runs runs it some
hundred times, each time with another environment: bare, as a part of the shell's step (the list as it is),
as a step of its own for the first time (the tool taken out of the list), and served to a shell that has
changed. That it was so is read from the counts of each build.

A tool belongs into the list where a first build that has it as a step costs more than a build that is served
gains. The last ones are not in the list and must not belong there: they are a part in the second way only.
Prints milliseconds a run, medians of interleaved rounds, and exits with 1 where the list is wrong. `--quick`
looks at the counts alone.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

# Programs of the list, by what they are given: run by their paths, for a shell has some of them inside.
LISTED = {
    "awk": "'{print $1}' in >out",
    "basename": "/a/b >out",
    "cat": "in >out",
    "chmod": "644 in",
    "cmp": "in in",
    "cp": "in copy",
    "cut": "-c 1 in >out",
    "diff": "in in",
    "dirname": "/a/b >out",
    "echo": "a >out",
    "env": "/usr/bin/true",
    "expr": "1 + 1 >out",
    "find": ". -maxdepth 1 -name nothing",
    "grep": "-c b in >out",
    "head": "-n 1 in >out",
    "install": "-m 644 in made",
    "ls": "in",
    "mkdir": "-p made-dir/sub",
    "od": "-N 4 in >out",
    "printf": "%s a >out",
    "readlink": "-f in >out",
    "rm": "-f gone",
    "sed": "s/a/b/ in >out",
    "seq": "3 >out",
    "sha256sum": "in >out",
    "sort": "in >out",
    "tail": "-n 1 in >out",
    "test": "-f in",
    "touch": "touched",
    "tr": "a b <in >out",
    "true": "",
    "uname": "-m >out",
    "uniq": "in >out",
    "wc": "-c in >out",
}
# Programs that are no small tools.
OTHERS = {
    "gcc": "-O2 -c in.c -o out",
    "python3": "-S -c 'print(sum(range(300000)))' >out",
}
POLICY = pathlib.Path(__file__).parents[2] / "src/base/policy.rs"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rfs", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--tools", help="these alone")
    parser.add_argument("--quick", action="store_true", help="the counts alone, of few runs")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.runs = 1, 3
    rfs = args.rfs.resolve(strict=True)
    known = listed()
    if astray := (set(LISTED) - known) | (set(OTHERS) & known):
        return f"this and {POLICY} do not agree about {' '.join(sorted(astray))}"
    wrong = []
    print("| tool | bare | part | first as a step | served | belongs into the list |")
    print("|---|---|---|---|---|---|")
    for tool, given in {**LISTED, **OTHERS}.items():
        if args.tools and tool not in args.tools.split(","):
            continue
        program = shutil.which(tool)
        if not program:
            return f"{tool} is not here"
        bare, part, first, served = measure(rfs, tool, f"{program} {given}", args)
        belongs = first - part > part - served
        if belongs != (tool in LISTED):
            wrong.append(tool)
        figures = " | ".join(f"{ms:.2f}" for ms in (bare, part, first, served))
        print(f"| {tool} | {figures} | {'yes' if belongs else 'no'} |", flush=True)
    print(f"not measured: {' '.join(sorted(known - set(LISTED)))}")
    if wrong and not args.quick:
        return f"the list is wrong about {' '.join(wrong)}"
    return 0


def listed():
    """The list as it is built in."""
    text = re.search(r'fold: words\(\s*"(.*?)"', POLICY.read_text(), re.DOTALL)[1]
    return set(text.replace("\\", " ").split())


def measure(rfs, tool, command, args):
    """Milliseconds a run of the four ways."""
    ways = ("bare", "part", "first", "served")
    samples = {way: [] for way in ways}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as top:
            top = pathlib.Path(top)
            for way in ways:
                # What is served is what the way before it has stored.
                place = "first" if way == "served" else way
                workspace = top / place
                shutil.rmtree(workspace, ignore_errors=True)
                (workspace / ".git").mkdir(parents=True)
                (workspace / "in").write_text("a b c\n" * 50)
                (workspace / "in.c").write_text("int f(void) { return 1; }\n")
                folds = {"part": tool if tool in OTHERS else None, "first": f"-{tool}"}.get(place)
                if folds:
                    (workspace / "rfs.toml").write_text(f"[tools]\nfold = ['{folds}']\n")
                script = f"# {way}\nN=0; while [ $N -lt {args.runs} ]; do export N=$((N+1))\n{command}\ndone\n:"
                summary = top / f"{way}.json"
                wrapped = [rfs, "build", "-q", "--summary", summary, "--"]
                env = {**os.environ, "RFS_CACHE_DIR": str(top / f"cache-{place}")}
                began = time.monotonic()
                subprocess.run([*(wrapped if way != "bare" else []), "sh", "-c", script], cwd=workspace, env=env,
                               check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                samples[way].append((time.monotonic() - began) * 1000 / args.runs)
                if way != "bare":
                    check(tool, way, json.loads(summary.read_text()), args.runs)
    return [statistics.median(samples[way]) for way in ways]


def check(tool, way, counts, runs):
    """That a build was what it is taken for: but the shell, parts are no steps."""
    seen = (counts["ran"], counts["hit"], counts["refused"])
    wanted = {"part": (1, 0, 0), "first": (1 + runs, 0, 0), "served": (1, runs, 0)}[way]
    if seen != wanted:
        raise SystemExit(f"{tool}, {way}: {seen} ran, hit, refused; {wanted} were expected")


if __name__ == "__main__":
    raise SystemExit(main())
