#!/usr/bin/env python3
"""What a small tool costs as a part of the step around it, and what it would cost as a step of its own.

    python3 tests/bench/fold.py --rfs PATH [--rounds N] [--runs N] [--tools NAME,...]

The list `fold` of the configuration names programs that cost less as a part than as a step: nobody looks
them up, and nothing is stored of them. For each of a choice of them a shell that always runs runs it some
hundred times, each time with other arguments: bare, as a part of the shell's step (the list as it is), as a
step of its own for the first time (the tool taken out of the list), and served to a shell that has changed.
A tool belongs into the list where a step of its own costs the first build more than a later one gains.
The last ones are not in the list and must not belong there: of them, too, all four ways are measured.
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

# Programs of the list, by what they are given: run by their paths, for a shell has some of them inside.
LISTED = {
    "awk": "-v i=$i '{print i, $1}' in >out",
    "basename": "/a/b$i >out",
    "cat": "in >out",
    "chmod": "644 in",
    "cmp": "in in",
    "cp": "in copy$i",
    "cut": "-c $i in >out",
    "date": "-d @$i >out",
    "diff": "in in",
    "dirname": "/a/b$i >out",
    "env": "A=$i /usr/bin/true",
    "expr": "$i + 1 >out",
    "find": ". -maxdepth 1 -name in$i",
    "grep": "-c $i in >out",
    "head": "-n $i in >out",
    "install": "-m 644 in made$i",
    "ln": "-s in link$i",
    "ls": "in",
    "mkdir": "-p made-$i/$i",
    "mktemp": "-u >out",
    "mv": "-n in in",
    "od": "-N $i in >out",
    "printf": "%s $i >out",
    "readlink": "-f in >out",
    "rm": "-f gone$i",
    "sed": "s/a/$i/ in >out",
    "seq": "$i >out",
    "sha256sum": "in >out",
    "sort": "-k $i in >out",
    "stat": "-c %s in >out",
    "tail": "-n $i in >out",
    "tee": "out <in >/dev/null",
    "test": "-f in$i -o -f in",
    "touch": "touched$i",
    "tr": "a $i <in >out",
    "true": "$i",
    "uname": "-m >out",
    "uniq": "-w $i in >out",
    "wc": "-c in >out",
    "xargs": "echo $i <in >out",
}
# Programs that are no small tools.
OTHERS = {
    "gcc": "-O2 -DI=$i -c in.c -o out",
    "python3": "-S -c 'print(sum(range(300000)))' $i >out",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rfs", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--tools", help="these alone")
    args = parser.parse_args()
    rfs = args.rfs.resolve(strict=True)
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
                (workspace / "in.c").write_text("#include <stdio.h>\nint f(void) { return I; }\n")
                # What is in the list already is not added by being named.
                fold = f"-{tool}" if place == "first" else tool
                (workspace / "rfs.toml").write_text(f"[tools]\nfold = ['{fold}']\n")
                for made in workspace.glob("*[0-9]"):
                    shutil.rmtree(made) if made.is_dir() and not made.is_symlink() else made.unlink()
                script = f"# {way}\nfor i in $(seq {args.runs}); do\n{command}\ndone 2>/dev/null\n:"
                env = {**os.environ, "RFS_CACHE_DIR": str(top / f"cache-{place}")}
                began = time.monotonic()
                subprocess.run([*prefix, "sh", "-c", script], cwd=workspace, env=env, check=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                samples[way].append((time.monotonic() - began) * 1000 / args.runs)
    return [statistics.median(samples[way]) for way in ways]


if __name__ == "__main__":
    raise SystemExit(main())
