#!/usr/bin/env python3
"""How long builds by rules take beside ninja, make and a shell script, on one generated tree.

    python3 tests/bench/rules.py [--programs N] [--compiler gcc|cat|touch] [--jobs N] [--rfs PATH] [--dir DIR] [--json FILE]

N programs of eleven C files each, every file with a header of its own and one that its program shares: 12 N
commands. open-lmake's benchmark is this with N = 10000. `cat` instead of gcc shows what a command
costs beside its own work, `touch` one that reads nothing and needs no shell. For each tool: fresh (nothing known), again (all commands, everything known), no-op,
partial (ten programs of a built tree), header (one shared header has new contents). One run each; what a
tool ran in the last two cases is checked.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

FILES = 11


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--compiler", choices=["gcc", "cat", "touch"], default="cat")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--rfs", type=pathlib.Path, default=target / "release/rfs")
    parser.add_argument("--dir", type=pathlib.Path, default=target / "bench-rules")
    parser.add_argument("--tools", default="bash,ninja,make,rfs")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    args.rfs = args.rfs.resolve(strict=True)
    args.dir = args.dir.resolve()
    return args


def generate(tree, args):
    """The sources, and the same build in four languages."""
    gcc = args.compiler == "gcc"
    compile_, link = ("gcc -c -o {o} {c}", "gcc -o {o} {c}") if gcc else ("cat {c} > {o}", "cat {c} > {o}")
    touch = args.compiler == "touch"
    if touch:
        compile_ = link = "/usr/bin/touch {o}"
    objects = [f"f{n}.o" for n in range(FILES)]
    script, ninja, make = ["set -e"], [], []
    ninja += ["rule cc", "  command = " + compile_.format(o="$out", c="$in")
              + (" -MD -MF $out.d\n  depfile = $out.d\n  deps = gcc" if gcc else "")]
    ninja += ["rule ld", "  command = " + link.format(o="$out", c="$in")]
    progs = [f"d{n}/prog" for n in range(args.programs)]
    for n in range(args.programs):
        d = tree / f"d{n}"
        d.mkdir(parents=True)
        (d / "all.h").write_text(f"#define ALL {n}\n")
        for m in range(FILES):
            (d / f"f{m}.h").write_text(f"int f{m}(void);\n")
            body = f"int f{m}(void) {{ return ALL; }}\n" if m else "int main(void) { return 0; }\n"
            (d / f"f{m}.c").write_text(f'#include "all.h"\n#include "f{m}.h"\n{body}')
            o, c = f"d{n}/f{m}.o", f"d{n}/f{m}.c"
            heads = "" if gcc or touch else f" d{n}/all.h d{n}/f{m}.h"
            script.append(compile_.format(o=o, c=c + heads) + " &")
            ninja.append(f"build {o}: cc {c}{heads}")
            make.append(f"{o}: {c} d{n}/all.h d{n}/f{m}.h\n\t@" + compile_.format(o=o, c=c + heads))
            if m % args.jobs == args.jobs - 1:
                script.append("wait")
        objs = " ".join(f"d{n}/{o}" for o in objects)
        script += ["wait", link.format(o=progs[n], c=objs)]
        ninja.append(f"build {progs[n]}: ld {objs}")
        make.append(f"{progs[n]}: {objs}\n\t@" + link.format(o=progs[n], c=objs))
    ninja.append("build all: phony " + " ".join(progs))
    make.insert(0, "all: " + " ".join(progs))
    (tree / "build.sh").write_text("\n".join(script) + "\n")
    (tree / "build.ninja").write_text("\n".join(ninja) + "\n")
    (tree / "Makefile").write_text("\n".join(make) + "\n")
    more = "" if gcc or touch else " {d}/all.h {d}/{f}.h"
    rfs_compile = compile_.replace("{c}", "{dep}" + more, 1).replace("{o}", "{target}")
    rfs_compile, rfs_link = (f"'{rfs_compile}'", "'" + link.replace("{c}", "{deps}").replace("{o}", "{target}") + "'")
    if touch:
        rfs_compile = rfs_link = "['/usr/bin/touch', '{target}']"
    (tree / "Rfsfile").write_text(
        f"rule('cc', targets = '{{d}}/{{f}}.o', deps = '{{d}}/{{f}}.c', cmd = {rfs_compile})\n"
        f"rule('ld', targets = '{{d}}/prog', deps = ['{{d}}/f%d.o' % n for n in range({FILES})], "
        f"cmd = {rfs_link})\n"
        f"rule('all', targets = target('all', phony = True), "
        f"deps = ['d%d/prog' % n for n in range({args.programs})], cmd = ['/bin/true'])\n"
    )


def timed(argv, tree, env=None):
    begun = time.monotonic()
    done = subprocess.run(argv, cwd=tree, env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    took = time.monotonic() - begun
    if done.returncode:
        sys.exit(f"{argv}: {done.returncode}\n{done.stdout.decode()[-2000:]}")
    return took, done.stdout.decode()


def clean(tree):
    for path in list(tree.glob("d*/*.o")) + list(tree.glob("d*/prog")):
        path.unlink()


def main():
    args = arguments()
    shutil.rmtree(args.dir, ignore_errors=True)
    some = [f"d{n}/prog" for n in range(min(10, args.programs))]
    rows = {}
    for tool in args.tools.split(","):
        if not shutil.which(tool) and tool != "rfs":
            print(f"{tool}: not there")
            continue
        tree = args.dir / tool
        tree.mkdir(parents=True)
        generate(tree, args)
        jobs = f"-j{args.jobs}"
        env = dict(os.environ, RFS_CACHE_DIR=str(args.dir / "cache"))
        rfs = [str(args.rfs), "build", jobs]
        command = {"bash": ["bash", "build.sh"], "ninja": ["ninja", jobs],
                   "make": ["make", jobs], "rfs": rfs}[tool]
        target = {"bash": [], "ninja": ["all"], "make": ["all"], "rfs": ["all"]}[tool]
        row = rows[tool] = {}
        row["fresh"], _ = timed(command + target, tree, env)
        if tool == "rfs":
            row["again"], _ = timed(command + ["--rerun"] + target, tree, env)
        else:
            clean(tree)
            row["again"], _ = timed(command + target, tree, env)
        if tool == "bash":
            continue
        row["no-op"] = sorted(timed(command + target, tree, env)[0] for _ in range(5))[2]
        row["partial"] = sorted(timed(command + some, tree, env)[0] for _ in range(5))[2]
        time.sleep(0.02)
        (tree / "d3/all.h").write_text("#define ALL 77\n")
        row["header"], said = timed(command + target, tree, env)
        if tool == "rfs":
            ran = int(said.rsplit("rfs: ", 1)[1].split(" ran")[0])
            assert ran in ((0,) if args.compiler == "touch" else (FILES, FILES + 1, FILES + 2)), said
    n_commands = args.programs * (FILES + 1)
    print(f"{n_commands} commands ({args.compiler}), {args.jobs} at a time")
    for tool, row in rows.items():
        print(f"{tool:6}", "  ".join(f"{what} {took:8.3f} s" for what, took in row.items()),
              f"  fresh: {n_commands / row['fresh']:.0f} commands/s")
    if args.json:
        args.json.write_text(json.dumps({"commands": n_commands, "rows": rows}))


main()
