//! Ordinary commands in a mount: as on a local disk.

use super::Mounted;
use crate::run::Cmd;
use crate::space::TestSpace;
use crate::tree::assert_same;
use std::fs;

/// The same script in a plain directory and in a mount: same output, same tree.
fn same(fill: impl Fn(&TestSpace), script: &str) {
    let bare = TestSpace::new();
    fill(&bare);
    let plain = bare.bare(Cmd::sh(script)).expect_code(0);
    let m = Mounted::new(&fill);
    let mounted = m.space.bare(Cmd::sh(script)).expect_code(0);
    let _gone = m.umount(&[]).expect_code(0);
    let here = |text: String, s: &TestSpace| text.replace(s.root().to_str().unwrap(), "ROOT");
    assert_eq!(here(plain.out(), &bare), here(mounted.out(), &m.space));
    m.space.remove(".rfs");
    assert_same(&bare.tree(), &m.space.tree(), script);
}

fn c_project(s: &TestSpace) {
    s.write("a.h", "#define N 6\n");
    s.write("a.c", "#include \"a.h\"\nint a(void) { return N; }\n");
    s.write("m.c", "#include <stdio.h>\nint a(void);\nint main(void) { printf(\"%d\\n\", a() * 7); return 0; }\n");
    s.write(
        "Makefile",
        "prog: a.o m.o\n\tcc -o $@ a.o m.o\n%.o: %.c a.h\n\tcc -c $<\nclean:\n\trm -f prog *.o\n",
    );
}

#[test]
fn make() {
    same(
        c_project,
        "make -s -j2 && ./prog && make && touch a.h && make -n && make -s clean && make -s && ls",
    );
}

#[test]
fn cmake_and_ninja() {
    same(
        |s| {
            c_project(s);
            s.write("CMakeLists.txt", "cmake_minimum_required(VERSION 3.20)\nproject(p C)\nadd_executable(prog a.c m.c)\n");
        },
        "cmake -G Ninja -B out . >/dev/null && ninja -C out >/dev/null && out/prog && ninja -C out && \
         rm -rf out",
    );
}

#[test]
fn git() {
    same(
        c_project,
        "export GIT_AUTHOR_DATE='1000000000 +0000' GIT_COMMITTER_DATE='1000000000 +0000'; \
         git init -q -b main && git config user.email a@b && git config user.name a && \
         printf '.rfs\\n' > .gitignore && git add . && git commit -qm one && echo x >> a.c && \
         git diff --stat && git stash -q && git status --short && git stash pop -q && git commit -qam two && \
         git checkout -q HEAD~1 && cat a.c && git gc -q && git fsck && git log --oneline | wc -l && rm -rf .git",
    );
}

#[test]
fn python() {
    same(
        |s| {
            s.write("pkg/__init__.py", "from .x import f\n");
            s.write("pkg/x.py", "def f(): return 42\n");
            s.script(
                "t.py",
                "import sqlite3, pkg, os, tempfile, mmap\n\
                 db = sqlite3.connect('db')\ndb.execute('pragma journal_mode=wal')\n\
                 db.execute('create table t(x)')\ndb.execute('insert into t values (?)', (pkg.f(),))\ndb.commit()\n\
                 print(db.execute('select * from t').fetchall()); db.close()\n\
                 with tempfile.TemporaryDirectory(dir='.') as d:\n    open(d + '/f', 'w').write('x')\n    os.rename(d + '/f', 'g')\n\
                 with open('g', 'r+b') as f:\n    m = mmap.mmap(f.fileno(), 0); m[0:1] = b'y'; m.close()\n\
                 print(open('g').read(), sorted(n for n in os.listdir('.') if n[0] != '.'))\n",
            );
        },
        "python3 -B t.py && rm -f db*",
    );
}

/// What an editor, git or anybody else does to the directory below the mount is seen in the mount at once.
#[test]
fn edits_from_outside_are_seen_at_once() {
    let space = TestSpace::new();
    space.write("d/a", "one\n");
    space.write("d/same", "one\n");
    let at = space.root().join("outside");
    let _mounted = space
        .tool(&["mount", space.ws().to_str().unwrap(), at.to_str().unwrap()])
        .expect_code(0);
    let m = Mounted {
        at: at.clone(),
        space,
    };
    let s = &m.space;
    for n in 0..50 {
        let text = "x".repeat(n + 1);
        // In place, by a new file under the old name, and one that was looked for and not there.
        let fresh = format!("d/new{n}");
        assert!(!at.join(&fresh).exists());
        s.write(&fresh, &text);
        s.write("d/a", &text);
        s.write("d/a~", &text);
        s.rename("d/a~", "d/same");
        for name in [&*fresh, "d/a", "d/same"] {
            assert_eq!(fs::read_to_string(at.join(name)).unwrap(), text, "{name}");
            assert_eq!(
                fs::metadata(at.join(name)).unwrap().len(),
                text.len() as u64
            );
        }
        let names = fs::read_dir(at.join("d")).unwrap().count();
        assert_eq!(names, n + 3);
        s.remove("d/a");
        assert!(!at.join("d/a").exists());
        s.write("d/a", "again");
    }
}
