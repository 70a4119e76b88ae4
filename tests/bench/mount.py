#!/usr/bin/env python3
"""What a mount costs: the same work in a directory and in a mount of it, in turn.

    python3 tests/bench/mount.py [--rfs PATH] [--rounds N] [--files N] [--lua DIR] [--inputs N]

Each round does every work in the bare directory and in the mount, in an order that changes; the table has the median
of each and the median of the rounds' ratios. --lua: a tree of Lua's sources to make. --inputs: `rfs build` with
nothing to do, of a command that has read so many files, in the mount and in the directory.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--rfs", type=pathlib.Path, default=target / "release/rfs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--lua", type=pathlib.Path)
    parser.add_argument("--inputs", type=int, default=0)
    args = parser.parse_args()
    args.rfs = args.rfs.resolve(strict=True)
    return args


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fill(top, files):
    for n in range(files):
        directory = top / f"d{n % 50}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{n}").write_text(f"{n}\n" * 50)
    (top / "large").write_bytes(os.urandom(1 << 20) * 64)


def works(files):
    names = [f"d{n % 50}/f{n}" for n in range(files)]

    def stat(top):
        for name in names:
            os.stat(os.path.join(top, name))

    def absent(top):
        for name in names:
            os.path.exists(os.path.join(top, name + ".h"))

    def opened(top):
        for name in names:
            os.close(os.open(os.path.join(top, name), os.O_RDONLY))

    def read_small(top):
        for name in names:
            with open(os.path.join(top, name), "rb") as file:
                file.read()

    def read_large(top):
        with open(os.path.join(top, "large"), "rb", buffering=0) as file:
            while file.read(1 << 17):
                pass

    def write_small(top):
        for n in range(files // 4):
            with open(os.path.join(top, f"new{n}"), "wb") as file:
                file.write(b"x" * 1000)
        for n in range(files // 4):
            os.unlink(os.path.join(top, f"new{n}"))

    def write_large(top):
        path = os.path.join(top, "new")
        with open(path, "wb", buffering=0) as file:
            for _ in range(512):
                file.write(b"x" * (1 << 17))
        os.unlink(path)

    def readdir(top):
        for _ in range(10):
            for n in range(50):
                os.listdir(os.path.join(top, f"d{n}"))

    def git_status(top):
        subprocess.run(["git", "status", "--short"], cwd=top, check=True, stdout=subprocess.DEVNULL)

    return {
        "stat": stat,
        "stat, absent": absent,
        "open, close": opened,
        "read small files": read_small,
        "read 64 MiB": read_large,
        "write, remove small files": write_small,
        "write 64 MiB": write_large,
        "readdir": readdir,
        "git status": git_status,
    }


def compare(work, bare, mounted, rounds):
    samples = {bare: [], mounted: []}
    for place in (bare, mounted):
        work(place)
    for n in range(rounds):
        for place in (bare, mounted) if n % 2 else (mounted, bare):
            samples[place].append(timed(lambda place=place: work(place)))
    ratios = [m / b for b, m in zip(samples[bare], samples[mounted])]
    return statistics.median(samples[bare]), statistics.median(samples[mounted]), statistics.median(ratios)


def main():
    args = arguments()
    top = pathlib.Path(tempfile.mkdtemp(prefix="rfs-bench-mount."))
    bare, mounted = top / "w", top / "m"
    env = dict(os.environ, RFS_CACHE_DIR=str(top / "cache"))

    def rfs(*words, cwd="/"):
        subprocess.run([args.rfs, *words], cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL)

    try:
        bare.mkdir()
        mounted.mkdir()
        fill(bare, args.files)
        git = "git init -q . && echo .rfs > .gitignore && git add . && git -c user.name=a -c user.email=a commit -qm a"
        subprocess.run(["sh", "-c", git], cwd=bare, check=True)
        every = works(args.files)
        if args.lua:
            shutil.copytree(args.lua, bare / "lua")

            def make(place):
                command = "make -s clean && make -s -j2 linux"
                where = os.path.join(place, "lua")
                subprocess.run(["sh", "-c", command], cwd=where, check=True, stdout=subprocess.DEVNULL)

            every["make of lua"] = make
        rfs("mount", str(bare), str(mounted))
        print("| work | directory | mount | ratio |")
        print("|---|---|---|---|")
        for name, work in every.items():
            rounds = 3 if name.startswith("make") else args.rounds
            one, other, ratio = compare(work, str(bare), str(mounted), rounds)
            print(f"| {name} | {one * 1000:.1f} ms | {other * 1000:.1f} ms | {ratio:.2f} |", flush=True)
        rfs("umount", str(mounted))
        if args.inputs:
            no_op(args, rfs, top / "many")
    finally:
        subprocess.run([args.rfs, "umount", "--force", str(mounted)], stderr=subprocess.DEVNULL)
        shutil.rmtree(top)


def no_op(args, rfs, tree):
    """`rfs build` with nothing to do, over so many inputs: in the directory, and in a mount over it."""
    for n in range(args.inputs):
        directory = tree / f"d{n // 1000}"
        if n % 1000 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{n}").write_text(str(n))
    build = ["build", "-q", "--", "sh", "-c", "find . -name .rfs -prune -o -type f -exec cat {} + | wc -c > sum"]
    first = timed(lambda: rfs(*build, cwd=tree))
    rfs(*build, cwd=tree)
    medians = []
    for step in ("in the directory", "in a mount"):
        if step == "in a mount":
            rfs("mount", str(tree))
        times = [timed(lambda: rfs(*build, cwd=tree)) for _ in range(5)]
        medians.append(statistics.median(times))
        print(f"no-op of {args.inputs} inputs, {step}: {medians[-1] * 1000:.0f} ms")
    rfs("umount", str(tree))
    print(f"(the first run took {first:.1f} s)")


if __name__ == "__main__":
    main()
