"""The real projects that are built: how, what edit is typical, what is not reproducible and why."""

import dataclasses
import sys


@dataclasses.dataclass(frozen=True)
class Project:
    """Commands run in a copy of the pristine source; `edit` gets one more comment line."""

    name: str
    build: tuple
    edit: str
    comment: str
    configure: tuple = ()
    # Files that differ between two bare builds as well: path pattern -> reason.
    varies: dict = dataclasses.field(default_factory=dict)
    env: dict = dataclasses.field(default_factory=dict)
    ccache: bool = True


# Words that start a line of --explain for a step that is a compiler.
COMPILERS = {"cc", "gcc", "g++", "c++", "cc1", "cc1plus", "as", "rustc", "clang"}

_CARGO_ORDER = "cargo writes a hash map in the order of a random seed"
_REDIS_DATE = "src/mkreleasehdr.sh writes the time of the build (date +%s) into release.h"

PROJECTS = {
    project.name: project
    for project in (
        Project(
            name="lua",
            build=(
                "make", "-j2", "-C", "src", "all",
                "MYCFLAGS=-DLUA_USE_LINUX", "MYLIBS=-Wl,-E -ldl",
            ),
            edit="src/lapi.c",
            comment="/* edited */",
        ),
        Project(
            name="zstd",
            build=("make", "-j2", "zstd"),
            edit="lib/compress/zstd_compress.c",
            comment="/* edited */",
        ),
        Project(
            name="xz",
            configure=("./configure",),
            build=("make", "-j2"),
            edit="src/liblzma/common/common.c",
            comment="/* edited */",
            varies={"config.log": "ld names gcc's temporary files, whose names are random"},
        ),
        Project(
            name="redis",
            build=("make", "-j2", "MALLOC=libc"),
            edit="src/networking.c",
            comment="/* edited */",
            varies={
                "src/release.h": _REDIS_DATE,
                "src/release.o": _REDIS_DATE,
                "src/redis-*": _REDIS_DATE,
            },
        ),
        Project(
            name="cargo",
            build=("cargo", "build", "--offline"),
            edit="src/lib.rs",
            comment="// edited",
            env={"CARGO_INCREMENTAL": "0"},
            varies={
                "target/.rustc_info.json": _CARGO_ORDER,
                "target/debug/.fingerprint/*/dep-*": _CARGO_ORDER,
            },
            ccache=False,
        ),
        Project(
            name="python",
            build=(sys.executable, "-m", "compileall", "-q", "-j1", "."),
            edit="json/decoder.py",
            comment="# edited",
            ccache=False,
        ),
    )
}
