"""One project built in every way, in turn, with the checks that the results are right."""

import json
import os
import shutil
import subprocess
import time

import tree
from machine import Noise

CCACHE_LINKS = "/usr/lib/ccache"


class CannotGoOn(Exception):
    """A command failed: what, where to look."""


class Bench:
    """The samples of one project: `samples` maps a variant to its seconds, a round each. What is not as
    it should be goes into `failures`, what is worth knowing into `notes`."""

    def __init__(self, project, directory, rfs, compilers, pin=None):
        self.project, self.rfs, self.compilers, self.pin = project, rfs, compilers, pin
        self.source = directory / "source" / project.name
        self.work = directory / "work" / project.name
        self.pristine = directory / "configured" / project.name
        self.caches = directory / "caches" / project.name
        self.logs = directory / "logs"
        self.samples, self.notes, self.failures = {}, [], []
        self.bare_tree = self.no_op_tree = self.edited_tree = None
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("CARGO_TARGET", "RFS_"))}
        self.env |= {"RFS_CACHE_DIR": str(self.caches / "rfs"), **project.env}

    def prepare(self):
        """Makes the configured tree that builds start from, and a bare build to compare with."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._copy(self.source)
        if self.project.configure:
            self._run("configure", self.project.configure)
        shutil.rmtree(self.pristine, ignore_errors=True)
        self.pristine.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", self.work, self.pristine], check=True)
        self._run("bare", self.project.build)
        self.bare_tree = tree.read(self.work)

    def round(self):
        """Runs every variant once."""
        if self.project.configure:
            self._configure()
        self._bare()
        self._rfs()
        if self.project.ccache and os.path.isdir(CCACHE_LINKS):
            self._ccache()

    def _configure(self):
        self._empty("rfs")
        self._copy(self.source)
        self._time("configure bare", self.project.configure)
        bare = tree.read(self.work)
        for variant in ("configure rfs first", "configure rfs warm"):
            self._copy(self.source)
            counts = self._time_rfs(variant, self.project.configure)
            self._same(variant, bare)
        self._served("configure rfs warm", counts)

    def _bare(self):
        self._copy(self.pristine)
        self._time("bare", self.project.build)
        self._same("bare")
        self._time("bare no-op", self.project.build)
        self.no_op_tree = tree.read(self.work)
        self._edit()
        self._time("bare one file", self.project.build)
        self.edited_tree = tree.read(self.work)

    def _rfs(self):
        self._empty("rfs")
        self._copy(self.pristine)
        self._time_rfs("rfs first", self.project.build)
        self._same("rfs first")
        if self.pin:
            self._empty("rfs")
            self._copy(self.pristine)
            self._time_rfs("rfs first, pinned", self.project.build, ("--pin", self.pin))
        self._copy(self.pristine)
        counts = self._time_rfs("rfs warm clean", self.project.build)
        self._served("rfs warm clean", counts)
        self._same("rfs warm clean")
        self._time_rfs("rfs no-op, the first", self.project.build)
        counts = self._time_rfs("rfs no-op", self.project.build)
        self._served("rfs no-op", counts)
        self._same("rfs no-op", self.no_op_tree)
        self._edit()
        self._time_rfs("rfs one file", self.project.build)
        self._same("rfs one file", self.edited_tree)
        self._copy(self.pristine)
        self._edit()
        self._time_rfs("rfs clean, one file", self.project.build)
        self._same("rfs clean, one file", self._edited_at_once())

    def _ccache(self):
        self._empty("ccache")
        env = {
            "PATH": f"{CCACHE_LINKS}:{self.env['PATH']}",
            "CCACHE_DIR": str(self.caches / "ccache"),
        }
        for variant in ("ccache first", "ccache warm clean"):
            self._copy(self.pristine)
            self._time(variant, self.project.build, env)

    # --- one command

    def _copy(self, origin):
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", origin, self.work], check=True)

    def _empty(self, cache):
        shutil.rmtree(self.caches / cache, ignore_errors=True)
        (self.caches / cache).mkdir(parents=True)

    def _edit(self):
        with open(self.work / self.project.edit, "a", encoding="utf-8") as file:
            file.write(f"\n{self.project.comment}\n")

    def _log(self, variant):
        return self.logs / f"{self.project.name}-{variant.replace(' ', '-').replace(',', '')}.log"

    def _run(self, variant, command, env=None):
        with open(self._log(variant), "wb") as log:
            done = subprocess.run(
                command,
                cwd=self.work,
                env=self.env | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise CannotGoOn(f"{variant}: exit status {done.returncode}: see {self._log(variant)}")

    def _time(self, variant, command, env=None):
        noise, start = Noise(), time.monotonic()
        self._run(variant, command, env)
        seconds = time.monotonic() - start
        self.samples.setdefault(variant, []).append({"s": seconds, "noise": noise.share()})

    def _time_rfs(self, variant, command, options=()):
        # Without a state directory of its own it would belong to the workspace around it.
        times = os.stat(self.work)
        subprocess.run([self.rfs, "init", self.work], stdout=subprocess.DEVNULL, check=True)
        os.utime(self.work, ns=(times.st_atime_ns, times.st_mtime_ns))
        counts = self.logs / "summary.json"
        counts.unlink(missing_ok=True)
        front = (self.rfs, "build", "--explain", "--strict", "--summary", counts, *options, "--")
        self._time(variant, (*front, *command))
        if not counts.exists():
            raise CannotGoOn(f"{variant}: no summary was written: see {self._log(variant)}")
        return json.loads(counts.read_text())

    # --- checks

    def _edited_at_once(self):
        """The tree of one build of the edited source: without what a second build alone makes or changes."""
        expected = dict(self.edited_tree)
        for path in tree.differences(self.bare_tree, self.no_op_tree):
            expected.pop(path, None)
            if path in self.bare_tree:
                expected[path] = self.bare_tree[path]
        return expected

    def _same(self, variant, bare=None):
        bare = self.bare_tree if bare is None else bare
        differ = tree.differences(bare, tree.read(self.work))
        wrong = tree.unexplained(differ, self.project.varies)
        if wrong:
            self.failures.append(f"{variant}: not as a bare build leaves it: {', '.join(wrong[:20])}")
        if variant == "bare" and differ:
            self.notes.append(f"two bare builds differ in {', '.join(differ)}")

    def _served(self, variant, counts):
        if counts["whole"] == "hit":
            return
        with open(self._log(variant), encoding="utf-8", errors="replace") as log:
            ran = [line for line in log if line.startswith(("rfs: ran ", "rfs: refused "))]
        started = [line for line in ran if self.compilers & {w.rsplit("/", 1)[-1] for w in line.split()[2:3]}]
        if started:
            self.failures.append(f"{variant}: a compiler ran: {started[0].strip()[:200]}")
        self.notes.append(f"{variant}: not a whole hit, {counts['ran']} ran, {counts['refused']} refused")
