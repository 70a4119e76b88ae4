//! Tools, compilers and interpreters.

use super::{Program, check};
use crate::run::Cmd;
use crate::space::TestSpace;

pub fn sources(s: &TestSpace) {
    s.write("in/one", "one x\n");
    s.write("in/two", "two\n");
    s.write("in/one.h", "#define ONE 1\n");
    s.write(
        "m.c",
        "#include <stdio.h>\n#include \"one.h\"\nint two(void);\n\
         int main(void) { return puts(\"hi\") < two() * ONE; }\n",
    );
    s.write("two.c", "int two(void) { return 1; }\n");
    s.write(
        "p.cc",
        "#include <iostream>\nint main() { std::cout << \"hi\\n\"; }\n",
    );
}

fn script(text: &str, at_least: usize, steps: &'static [&'static str]) {
    check(&Program {
        furnish: sources,
        cmd: Cmd::sh(text),
        at_least,
        steps,
        ..Program::default()
    });
}

#[test]
fn tools() {
    let text = "cat in/*; ls -lR . >/dev/null; grep -r x in; sed -i s/x/y/ in/one; \
        find . -name two; test -e none; test -e in/one/none; cp -p in/one copy; cp -r in twice; \
        ln -s in/one l; ln -s nowhere n; cat l; test -e n; test -e no/such; ln in/two hard; \
        mv copy moved; touch -d yesterday moved; tar cf t.tar in; mkdir out; tar xf t.tar -C out; \
        readlink -f l; stat l >/dev/null; dd if=in/one of=dd 2>/dev/null; head -c 3 <in/two; \
        mv out/in renamed; cat renamed/two; chmod 600 moved; rm -r twice; exec /bin/true";
    script(text, 80, &["tar"]);
}

#[test]
fn cc() {
    let text = "cc -O2 -I none -I in -c m.c two.c && cc -static -o s m.o two.o && ./s && \
        cc -o m m.o two.o && ./m";
    script(text, 100, &["cc", "./m", "./s"]);
}

#[test]
fn cxx() {
    script("c++ -O1 -o p p.cc && ./p", 300, &["c++", "./p"]);
}

#[test]
fn link_time_optimisation_and_archives() {
    let text = "cc -O2 -flto -I in -c m.c two.c && ar rcs libtwo.a two.o && gcc-ar rcs libt.a two.o && \
        ar t libtwo.a && ranlib libtwo.a && cc -O2 -flto -o m m.o -L. -lt && ./m && \
        cc -fno-lto -c two.c && ar rcs libtwo.a two.o && strip -o small m && objcopy -O binary m flat";
    script(text, 150, &["cc", "ar", "gcc-ar", "ranlib", "./m"]);
}

#[test]
fn dash() {
    let text = "for f in in/* none*; do test -f $f && echo $f; done; . ./lib.sh 2>/dev/null || \
        (cd in && { cat < one; pwd; }); x=$(command -v cc) && test -x $x; : > a >> a; \
        cat <<END > here\n$x\nEND\nPATH=./none:./in:$PATH; no-such-command || hash ls; cd in/..; \
        exec 3<in/two; read line <&3; echo $line; umask 077; mkdir -p d/e/f; cd d/e; echo x > f/g; \
        mv f ../h; cat ../h/g; ls -d no/*";
    let text = format!("{text}; true");
    check(&Program {
        furnish: |s| {
            sources(s);
            s.write("lib.sh", "helper() { cat \"$1\"; }\nhelper in/one; false\n");
        },
        cmd: Cmd::new(["dash", "-c", &text]),
        at_least: 40,
        steps: &["dash"],
        ..Program::default()
    });
}

#[test]
fn bash() {
    let text = "shopt -s nullglob globstar; for f in **/*.h none*; do echo $f; done; source lib.sh; \
        [[ in/one -nt in/two ]]; [[ -L in ]]; mapfile -t x < in/two; cat <(cat in/one) > got; \
        type -a cc >/dev/null; declare -f helper >/dev/null; cd in; cd - >/dev/null; pushd in; popd; \
        echo \"$(<in/one)\"; echo ${x[0]} &> all; exec {fd}<in/two; read -u $fd y; \
        cat <<< \"$y\"; coproc cat in/one; wait; compgen -f in/ >/dev/null; true";
    check(&Program {
        furnish: |s| {
            sources(s);
            s.write("lib.sh", "helper() { cat \"$1\"; }\nhelper in/one\n");
        },
        cmd: Cmd::new(["bash", "-c", text]),
        at_least: 40,
        steps: &["bash"],
        ..Program::default()
    });
}

#[test]
fn python() {
    const TEXT: &str = "import json, os, pathlib, shutil, subprocess, tempfile, zipfile\n\
        os.makedirs('p/q')\n\
        fd = os.open('p', os.O_RDONLY)\n\
        os.open('q/made', os.O_CREAT | os.O_WRONLY, dir_fd=fd)\n\
        os.rename('q/made', 'moved', src_dir_fd=fd, dst_dir_fd=fd)\n\
        print(os.listdir(fd), os.stat('moved', dir_fd=fd).st_size)\n\
        os.fchdir(fd)\n\
        open('here', 'w').write(open('../in/one').read())\n\
        os.chdir('..')\n\
        subprocess.run(['cat', 'in/one'], check=True)\n\
        shutil.copytree('in', 'copy')\n\
        print([e.is_file() for e in os.scandir('copy')], list(pathlib.Path('.').glob('**/one')))\n\
        with tempfile.TemporaryDirectory(dir='.') as d: open(d + '/x', 'w').close()\n\
        zipfile.ZipFile('z.zip', 'w').write('in/two')\n\
        os.symlink('in', 'l'); os.link('in/one', 'l/hard'); os.unlink('l/hard')\n\
        os.replace('copy/one', 'copy/two'); os.truncate('copy/two', 2); os.chmod('copy/two', 0o600)\n\
        print(os.path.exists('none/such'), os.access('in/one', os.X_OK), os.path.realpath('l/../l/one'))\n\
        import helper\n";
    check(&Program {
        furnish: |s| {
            sources(s);
            s.write("build.py", TEXT);
            s.write("helper.py", "import http.client\n");
        },
        cmd: "/usr/bin/python3 build.py".into(),
        at_least: 200,
        steps: &["/usr/bin/python3"],
        ..Program::default()
    });
}

#[test]
fn perl() {
    const TEXT: &str = "use strict; use File::Copy; use File::Find; use File::Path qw(make_path remove_tree); use File::Temp 'tempfile'; use Cwd;\n\
        find(sub { print \"$_\\n\" if -f }, 'in'); copy('in/one', 'copy'); make_path('a/b/c');\n\
        open(my $f, '>>', 'a/b/log') or die; print $f cwd(); close $f; move('copy', 'a/copy');\n\
        my ($t, $name) = tempfile(DIR => '.'); print $t 'x'; close $t; unlink $name;\n\
        opendir(my $d, 'in'); print sort readdir $d; print -s 'in/two', -e 'none' ? 1 : 0, -l 'in';\n\
        rename 'a/b', 'a/d'; utime 1, 2, 'a/copy'; chmod 0600, 'a/copy'; print `cat in/one`;\n\
        remove_tree('a/d'); print glob('in/*'); chdir 'in'; print -e 'one';\n";
    check(&Program {
        furnish: |s| {
            sources(s);
            s.write("build.pl", TEXT);
        },
        cmd: "perl build.pl".into(),
        at_least: 80,
        steps: &["perl"],
        ..Program::default()
    });
}

#[test]
fn make() {
    check(&Program {
        furnish: |s| {
            sources(s);
            let text = "all: m a b\nm: m.o two.o\n\t$(CC) -o $@ $^\nm.o: CPPFLAGS += -Iin -MMD\n\
                a: in/one\n\tcp $< $@\nb: in/two a\n\tcat $^ >$@\n-include none.mk m.d\n\
                sub: ; $(MAKE) -C in\n";
            s.write("Makefile", text);
        },
        cmd: "make -j2".into(),
        at_least: 150,
        steps: &["make", "cc"],
        ..Program::default()
    });
}
