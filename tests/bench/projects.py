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

_TEMPORARY = "ld names gcc's temporary files, whose names are random"
_COVERAGE = "gcc --coverage puts a random stamp into what it makes"
_RACE = "with -j two commands of its makefile write it at a time"
_VIM_DATE = "version.c has the time of the build (__DATE__, __TIME__)"
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
            varies={"config.log": _TEMPORARY},
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
            name="memcached",
            configure=("./configure",),
            build=("make", "-j2"),
            edit="items.c",
            comment="/* edited */",
            varies={
                "config.log": _TEMPORARY,
                "memcached-debug": _COVERAGE,
                "memcached_debug-*": _COVERAGE,
            },
        ),
        Project(
            name="sqlite",
            configure=("./configure",),
            build=("make", "-j2", "sqlite3"),
            edit="src/btree.c",
            comment="/* edited */",
            varies={"config.log": _TEMPORARY},
        ),
        Project(
            name="make",
            # Debian leaves out the manual, which is not free, and so what automake makes of it.
            configure=("sh", "-c", "mkdir -p doc && : >doc/Makefile.am && autoreconf -fi && ./configure --disable-nls"),
            build=("make", "-j2"),
            edit="src/expand.c",
            comment="/* edited */",
            varies={"config.log": _TEMPORARY, "autom4te.cache/*": "autom4te writes hash maps in the order of a random seed"},
        ),
        Project(
            name="lsof",
            configure=("./Configure", "-n", "linux"),
            build=("make", "-j2"),
            edit="print.c",
            comment="/* edited */",
            varies={"version.h": "it has the time of the build"},
        ),
        Project(
            name="autoconf",
            configure=("./configure",),
            build=("make", "-j2"),
            edit="bin/autoconf.as",
            comment="# edited",
            varies={"config.log": _TEMPORARY, "bin/autoconf": _RACE, "bin/autoconf.in*": _RACE},
            ccache=False,
        ),
        Project(
            name="coreutils",
            # It is not to be built by root otherwise.
            env={"FORCE_UNSAFE_CONFIGURE": "1"},
            configure=("./configure", "--disable-nls"),
            build=("make", "-j2"),
            edit="src/ls.c",
            comment="/* edited */",
            varies={"config.log": _TEMPORARY},
        ),
        Project(
            name="vim",
            configure=("./configure",),
            build=("make", "-j2", "-C", "src", "vim"),
            edit="src/buffer.c",
            comment="/* edited */",
            varies={
                "src/auto/config.log": _TEMPORARY,
                "src/objects/version.o": _VIM_DATE,
                "src/vim": _VIM_DATE,
            },
        ),
        Project(
            name="calc",
            build=("make", "calc-dynamic-only"),
            edit="zfunc.c",
            comment="/* edited */",
        ),
        Project(
            name="protobuf",
            configure=("sh", "-c", "autoreconf -fi && ./configure"),
            build=("make", "-j2", "-C", "src", "protoc"),
            edit="src/google/protobuf/arena.cc",
            comment="// edited",
            varies={"config.log": _TEMPORARY},
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
