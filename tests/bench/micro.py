#!/usr/bin/env python3
"""What the parts of rfs cost one by one, beside their budgets.

    python3 tests/bench/micro.py [--rfs PATH] [--rounds N] [--only GROUP,...] [--files N] [--dir DIR] [--json FILE]

Groups: calls (one call that looks at a name, by the way it is watched), exec (a program that gets the preload
library), hits (a served process over fork and wait), jobs (rfs's own
processor time for a process, the more of them run at once), files (work in the view of a build and in a mount,
against the directory), rates (looks a second that a mount answers), ends (start and end of a build), whole (a
command that looked at all or at a thousand of --files files is served), memory (of rfs for a name). --files 1000000 for the large tree.

micro/actor.c is compiled with cc and times itself. In each round every way is measured once, in turn, so that
what is compared comes from the same minutes of the machine. Prints Markdown: medians, the range over the rounds, the budget,
and the machine's noise. Budgets that are missed are told; --check makes them the exit status 1.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # leave nothing in the source tree
from machine import Noise

HERE = pathlib.Path(__file__).resolve().parent
GROUPS = ("calls", "exec", "hits", "jobs", "files", "rates", "ends", "whole", "memory")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--rfs", type=pathlib.Path, default=target / "release/rfs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(GROUPS))
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--dir", type=pathlib.Path, help="where to work; default: a temporary directory")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--check", action="store_true", help="fail where a budget is missed")
    args = parser.parse_args()
    args.rfs = args.rfs.resolve(strict=True)
    args.only = args.only.split(",")
    unknown = [group for group in args.only if group not in GROUPS]
    if unknown:
        parser.error(f"unknown group {unknown[0]} (known: {', '.join(GROUPS)})")
    return args


class Micro:
    """Takes samples; `rows` are what is told: group, what, samples, unit, budget."""

    def __init__(self, args, top):
        self.args, self.top, self.rows, self.mounted = args, top, [], []
        self.actor = top / "actor"
        subprocess.run(["cc", "-O2", "-o", self.actor, HERE / "micro/actor.c"], check=True)
        self.nonce = 0

    # --- one run

    def bare(self, *words, cwd=None):
        done = subprocess.run([self.actor, *map(str, words)], cwd=cwd or self.top, check=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        return float(done.stdout or 0)

    def space(self, name, config=""):
        """A new workspace with an actor of its own and, to tell programs apart, the same as `child`."""
        space = self.top / name
        (space / ".git").mkdir(parents=True)
        for program in ("actor", "child"):
            shutil.copy2(self.actor, space / program)
        (space / "rfs.toml").write_text(config)
        return space

    def build(self, space, *words, options=(), env=(), cached=False, hits=None):
        """What the actor prints inside of a build, which is never served itself but where `cached`. `hits`:
        so many steps must be served."""
        self.nonce += 1
        run = [] if cached else [f"@{self.nonce}"]
        counts = self.top / "summary.json"
        command = [self.args.rfs, "build", "-q", "--summary", counts, *options, "--", "./actor", *run, *map(str, words)]
        done = subprocess.run(command, cwd=space, env=self.env(env), check=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE)
        if hits is not None and json.loads(counts.read_text())["hit"] != hits:
            sys.exit(f"{command}: not {hits} hits: {counts.read_text()}")
        return float(done.stdout or 0)

    def env(self, more=()):
        env = {k: v for k, v in os.environ.items() if not k.startswith("RFS_")}
        return env | {"RFS_CACHE_DIR": str(self.top / "cache"), **dict(more)}

    # --- the table

    def compare(self, group, ways, unit="us", derive=()):
        """Measures all `ways` (name -> function), `rounds` times in turn. `derive`: what follows from them:
        (name, function of one round's figures, budget, unit)."""
        rounds = []
        for n in range(self.args.rounds):
            names = list(ways) if n % 2 == 0 else list(reversed(ways))
            rounds.append({name: ways[name]() for name in names})
        for name in ways:
            self.row(group, name, [r[name] for r in rounds], unit)
        for name, of, budget, its_unit in derive:
            self.row(group, name, [of(r) for r in rounds], its_unit, budget)

    def row(self, group, what, samples, unit, budget=None):
        median = statistics.median(samples)
        missed = budget is not None and (median < budget if unit == "of native" else median > budget)
        self.rows.append({"group": group, "what": what, "samples": samples, "median": median,
                          "unit": unit, "budget": budget, "missed": missed})
        show = {"us": "{:.2f} us", "ms": "{:.1f} ms", "of native": "{:.2f} of native", "/s": "{:.0f} /s", "times": "{:.2f} times", "MB": "{:.1f} MB", "bytes": "{:.0f} bytes"}[unit].format
        told = "" if budget is None else f"{show(budget)}{' MISSED' if missed else ''}"
        print(f"| {group} | {what} | {show(median)} [{show(min(samples)).split()[0]}-{show(max(samples)).split()[0]}]"
              f" | {told} |", flush=True)

    # --- the groups

    def calls(self):
        """One access(2) of an absent name outside of the workspace, and, with the mount's part in it, inside."""
        space, n = self.space("calls"), 20_000
        (space / "dir").mkdir()
        outside = self.top / "outside"
        outside.mkdir()
        slow = {"RFS_PRELOAD": "0"}
        ptrace = ("--tracer", "ptrace")
        self.compare("calls", {
            "bare": lambda: self.bare("look", "libc", n, outside),
            "noted by the preload library": lambda: self.build(space, "look", "libc", n, outside),
            "the same name again": lambda: self.build(space, "look", "again", n, outside),
            "stopped by notification": lambda: self.build(space, "look", "raw", n, outside),
            "the same, no library at all": lambda: self.build(space, "look", "raw", n, outside, env=slow),
            "stopped by ptrace": lambda: self.build(space, "look", "raw", n // 4, outside, options=ptrace),
            "noted, in the workspace": lambda: self.build(space, "look", "libc", n // 4, "dir"),
            "stopped, in the workspace": lambda: self.build(space, "look", "raw", n // 4, "dir"),
        })

    def exec(self):
        """A program that does nothing, as a part of the step around it: without the library and with it."""
        config = "[tools]\nfold = ['child']\nnoted = ['child']\n"
        space, n = self.space("exec", config), 300
        off = {"RFS_PRELOAD": "0"}
        self.compare("exec", {
            "bare": lambda: self.bare("spawn", "vfork", n, space / "child", "nothing"),
            "without the library": lambda: self.build(space, "spawn", "vfork", n, "./child", "nothing", env=off),
            "with the library": lambda: self.build(space, "spawn", "vfork", n, "./child", "nothing"),
        }, derive=[("the library, an exec", lambda r: r["with the library"] - r["without the library"], 15, "us")])

    def hits(self):
        """A process that is served, as a loop that starts one after the other sees it."""
        space, n = self.space("hits"), 300
        made = self.space("hits-made")

        def with_output(hits=n):
            for path in made.glob("out*"):
                path.unlink()
            return self.build(made, "spawn", "vfork", n, "./child", "make", "out%", hits=hits)

        self.build(space, "spawn", "vfork", n, "./child", "nothing", "%")
        with_output(hits=None)
        for how in ("fork", "vfork", "spawn"):
            floor, exec_, hit = f"{how} and wait", f"{how} and a program that does nothing", f"{how} and a hit"
            self.compare("hits", {
                floor: lambda how=how: self.bare("spawn", "fork" if how == "fork" else "vfork", n, "-"),
                exec_: lambda how=how: self.bare("spawn", how, n, self.actor, "nothing"),
                hit: lambda how=how: self.build(space, "spawn", how, n, "./child", "nothing", "%", hits=n),
            }, derive=[(f"a hit over {floor}", lambda r, f=floor, h=hit: r[h] - r[f], 150, "us")])
        self.compare("hits", {"vfork and a hit that gives a file of 1000 bytes": with_output})

    def jobs(self):
        """Small processes, each a step of its own that reads a file and makes one, so many at once."""
        space, n = self.space("jobs"), 400

        def own(at_once):
            self.build(space, "jobs", at_once, n, "./child", "make", f"out{self.nonce}-%")
            told = subprocess.run([self.args.rfs, "profile", "--json"], cwd=space, env=self.env(), check=True,
                                  stdout=subprocess.PIPE)
            return json.loads(told.stdout)["calls"]["own"]["cpu_us"] / n

        at_once = (2, 4, 8, 16, 32)
        self.compare("jobs", {f"rfs's own time a process, {k} at once": lambda k=k: own(k) for k in at_once}, derive=[
            (f"{k} at once, of that of 2", lambda r, k=k: r[f"rfs's own time a process, {k} at once"]
             / r["rfs's own time a process, 2 at once"], 1.1, "times") for k in at_once[1:]])

    def memory(self):
        """What a build's host needs for each name that is looked at, absent ones, and without any."""
        space, n = self.space("memory"), 100_000
        (space / "dir").mkdir()

        def own(names):
            self.build(space, "look", "libc", names, "dir")
            told = subprocess.run([self.args.rfs, "profile", "--json"], cwd=space, env=self.env(), check=True,
                                  stdout=subprocess.PIPE)
            return json.loads(told.stdout)["calls"]["own"]["peak_bytes"]

        self.compare("memory", {
            "rfs with one name": lambda: own(1) / 1e6, f"rfs with {n} names": lambda: own(n) / 1e6,
        }, unit="MB", derive=[
            ("a name", lambda r: (r[f"rfs with {n} names"] - r["rfs with one name"]) * 1e6 / n, 100, "bytes"),
            ("rfs with one name, at most", lambda r: r["rfs with one name"], 50, "MB"),
        ])

    def files(self):
        space = self.space("files")
        many = space / "many"
        many.mkdir()
        for n in range(1000):
            (many / f"f{n}").write_bytes(b"x" * 4096)
        (many / "large").write_bytes(os.urandom(1 << 20) * 64)
        # Sizes in operations, or MiB; budgets as a part of the directory's speed.
        works = {"stat": (20_000, 0.95), "open": (5000, None), "read": (5000, None), "readdir": (50, None), "write": (1000, None),
                 "bulk read": (64, 0.95), "mmap": (64, 0.95), "bulk write": (64, 0.95)}
        mount = self.mount(space)
        for what, (n, budget) in works.items():
            self.compare("files", {
                f"{what}, directory": lambda: self.bare("op", what, n, many),
                f"{what}, view of a build": lambda: self.build(space, "op", what, n, "many"),
                f"{what}, mount": lambda: self.bare("op", what, n, mount / "many"),
            }, derive=[(f"{what}, {way}", lambda r, way=way: r[f"{what}, directory"] / r[f"{what}, {way}"], budget, "of native")
                       for way in ("view of a build", "mount")])
        self.unmount(mount)

    def rates(self):
        """Each look at an absent name is a request to the mount, whose answer the kernel does not keep."""
        space = self.space("rates")
        (space / "many").mkdir()
        mount, n = self.mount(space), 20_000
        self.compare("rates", {
            f"looks a second by {k} processes": lambda k=k: 1e6 / self.bare("rate", k, n, mount / "many")
            for k in (1, 2, 4, 8)
        }, unit="/s")
        self.unmount(mount)

    def ends(self):
        space = self.space("ends")
        wrapped = [self.args.rfs, "build", "-q", "--"]

        def timed(*words):
            start = time.monotonic()
            subprocess.run([*words], cwd=space, check=True, stdin=subprocess.DEVNULL, env=self.env())
            return (time.monotonic() - start) * 1000

        def new():
            self.nonce += 1
            return f"@{self.nonce}"

        timed(*wrapped, "./child", "nothing")
        self.compare("ends", {
            "a program that does nothing": lambda: timed("./child", "nothing"),
            "the same in a build": lambda: timed(*wrapped, "./child", new(), "nothing"),
            "the same served": lambda: timed(*wrapped, "./child", "nothing"),
        }, unit="ms", derive=[
            ("start and end of a build", lambda r: r["the same in a build"] - r["a program that does nothing"], 5, "ms"),
        ])

    def whole(self):
        """A command that is served as a whole, and what each file it had looked at costs."""
        files, space = self.args.files, self.space("whole")
        for n in range(0, files, 1000):
            directory = space / "tree" / f"d{n // 1000}"
            directory.mkdir(parents=True)
            for m in range(min(1000, files - n)):
                (directory / f"f{m}").write_text(f"{n + m}")
        every = max(1, files // 1000)

        def served(step, hits=1):
            start = time.monotonic()
            self.build(space, "tree", files, step, "tree", cached=True, hits=hits)
            return (time.monotonic() - start) * 1000

        begun = time.monotonic()
        for step in (every, 1, files):
            served(step, hits=None)
            served(step)
        print(f"(the first runs took {time.monotonic() - begun:.0f} s)", file=sys.stderr)
        few, all_, nothing = f"looked at {files // every} of {files} files", f"looked at all {files}", "looked at one"
        bare = "stat(2) of one file"
        self.compare("whole", {
            nothing: lambda: served(files), few: lambda: served(every), all_: lambda: served(1),
        }, unit="ms")
        table = {row["what"]: row["samples"] for row in self.rows if row["group"] == "whole"}
        self.row("whole", f"{few}, served in", table[few], "ms", 10)
        stats = [self.bare("stats", files, 1, space / "tree") for _ in range(self.args.rounds)]
        self.row("whole", bare, stats, "us")
        each = [(a - b) * 1000 / files - s for a, b, s in zip(table[all_], table[nothing], stats)]
        self.row("whole", "a file looked at, over its stat(2)", each, "us", 1.5)

    # --- mounts

    def mount(self, space):
        mount = self.top / f"{space.name}-mount"
        mount.mkdir()
        self.mounted.append(mount)
        self._rfs("mount", space, mount)
        return mount

    def unmount(self, mount):
        self._rfs("umount", mount)
        self.mounted.remove(mount)

    def _rfs(self, *words):
        subprocess.run([self.args.rfs, *words], cwd="/", env=self.env(), check=True, stdout=subprocess.DEVNULL)


def main():
    args = arguments()
    # Who is told to end takes its mounts away as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    top = pathlib.Path(tempfile.mkdtemp(prefix="rfs-bench-micro.", dir=args.dir)).resolve()
    noise = Noise()
    micro = None
    try:
        micro = Micro(args, top)
        print(f"Medians [least-most] of {args.rounds} rounds, {time.strftime('%d %B %Y')}.\n")
        print("| group | what | median | budget |\n|---|---|---|---|")
        for group in args.only:
            getattr(micro, group)()
        print(f"\nOthers used {noise.share():.0%} of the processors meanwhile.")
    finally:
        for mount in micro.mounted if micro else ():
            subprocess.run([args.rfs, "umount", "--force", mount], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(top)
    missed = [f"{row['group']}: {row['what']}" for row in micro.rows if row["missed"]]
    print(f"Budgets missed: {'; '.join(missed) or 'none'}.")
    if args.json:
        args.json.write_text(json.dumps({"schema": "rfs.micro/1", "noise": noise.share(), "rows": micro.rows}, indent=1))
    return 1 if missed and args.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
