//! Scientific software: Fortran modules, MPI's compiler wrappers, libraries with versions and run paths,
//! static archives, output kept together by make, and Java beside it.

use super::twice;
use crate::probe::Hit;
use crate::run::Cmd;
use crate::space::TestSpace;

fn fortran(s: &TestSpace) {
    s.write(
        "kinds.f90",
        "module kinds\n  implicit none\n  integer, parameter :: dp = kind(1.0d0)\nend module\n",
    );
    s.write(
        "grid.f90",
        "module grid\n  use kinds\n  implicit none\n  interface\n    module function area(x) result(r)\n\
         \x20     real(dp), intent(in) :: x\n      real(dp) :: r\n    end function\n  end interface\nend module\n",
    );
    s.write(
        "area.f90",
        "submodule (grid) area_impl\ncontains\n  module procedure area\n    r = x * x\n  end procedure\nend submodule\n",
    );
    s.write(
        "main.F90",
        "#include \"size.h\"\nprogram main\n  use grid\n  use kinds, only: dp\n  implicit none\n\
         \x20 print '(f6.2)', area(real(SIZE, dp))\nend program\n",
    );
    s.write("size.h", "#define SIZE 3\n");
    s.write(
        "old.f",
        "      subroutine old(n)\n      integer n\n      n = n + 1\n      end\n",
    );
}

const FORTRAN: &str = "FC = gfortran\nFFLAGS = -O1 -Jmod\nall: main\n\
    main: main.o area.o grid.o kinds.o libold.a\n\t$(FC) -o $@ $^\n\
    libold.a: old.o\n\tar rc $@ $^ && ranlib $@\n\
    %.o: %.f90\n\t@mkdir -p mod\n\t$(FC) $(FFLAGS) -c $<\n%.o: %.F90\n\t@mkdir -p mod\n\t$(FC) $(FFLAGS) -c $<\n\
    %.o: %.f\n\t$(FC) -c $<\ngrid.o: kinds.o\narea.o main.o: grid.o\n";

/// A module's `.mod` file is an output of one compilation and an input of the next.
#[test]
fn fortran_modules() {
    let lay = |s: &TestSpace| {
        fortran(s);
        s.write("Makefile", FORTRAN);
    };
    twice(lay, Cmd::sh("make -s -j2 -O && ./main"), Hit);

    // Whoever uses a module is compiled anew when what it says has changed.
    let s = TestSpace::new();
    lay(&s);
    let first = s.rfs(Cmd::sh("make -s && ./main")).expect_code(0);
    assert_eq!(first.out(), "  9.00\n");
    for (size, expected) in [("4", " 16.00\n"), ("3", "  9.00\n"), ("5", " 25.00\n")] {
        s.write("size.h", format!("#define SIZE {size}\n"));
        s.must("touch main.F90");
        let run = s.rfs(Cmd::sh("make -s && ./main")).expect_code(0);
        assert_eq!(run.out(), expected);
    }
    s.must("make -q");
}

/// To be sure of a compiler that has failed, as gfortran does with one of its questions, cmake sends it signals and
/// looks for its children in all of `/proc`. It has ended by then: whoever else is there does not matter.
#[test]
fn fortran_by_cmake() {
    let lay = |s: &TestSpace| {
        fortran(s);
        s.write(
            "CMakeLists.txt",
            "cmake_minimum_required(VERSION 3.18)\nproject(p Fortran C)\n\
             find_program(NVCC nvcc)\nif(NVCC)\n  enable_language(CUDA)\nendif()\n\
             add_library(grid SHARED kinds.f90 grid.f90 area.f90)\nadd_executable(main main.F90)\n\
             target_link_libraries(main grid)\n\
             install(TARGETS grid main RUNTIME DESTINATION bin LIBRARY DESTINATION lib)\n\
             set_target_properties(main PROPERTIES INSTALL_RPATH \"$ORIGIN/../lib\")\n",
        );
    };
    let cmd = "cmake -S . -B b -G Ninja > /dev/null && ninja -C b > /dev/null && \
               DESTDIR=$PWD/root cmake --install b > /dev/null && root/usr/local/bin/main; rm -r b";
    twice(lay, Cmd::sh(cmd), Hit);
}

/// The wrappers of Open MPI read their own settings and call the compiler.
#[cfg(feature = "long")]
#[test]
fn mpi_wrappers() {
    let lay = |s: &TestSpace| {
        s.write(
            "a.c",
            "#include <mpi.h>\nint main(int c, char **v) { MPI_Init(&c, &v); MPI_Finalize(); return 0; }\n",
        );
        s.write("b.f90", "program b\n  use mpi\n  implicit none\n  integer :: e\n  call MPI_Init(e)\n  call MPI_Finalize(e)\nend program\n");
    };
    let cmd = "mpicc -O1 -c a.c && mpicc a.o -o a && mpif90 b.f90 -o b && mpicc --showme:link | wc -w > words";
    twice(lay, Cmd::sh(cmd), Hit);
}

/// Libraries with versions, found by run paths that are edited afterwards, stripped at installation.
#[test]
fn libraries_and_run_paths() {
    let lay = |s: &TestSpace| {
        s.write("part.c", "int part(void) { return 42; }\n");
        s.write(
            "main.c",
            "#include <stdio.h>\nint part(void);\nint main(void) { printf(\"%d\\n\", part()); return 0; }\n",
        );
    };
    let cmd = "set -e; mkdir -p o lib root/bin root/lib\n\
        gcc -fPIC -shared -Wl,-soname,libpart.so.1 part.c -o lib/libpart.so.1.2\n\
        ldconfig -N -n lib; ln -s libpart.so.1 lib/libpart.so\n\
        gcc main.c -Llib -lpart -Wl,-rpath,$PWD/lib -o o/main; o/main\n\
        install -m 755 -s o/main root/bin/main; cp -d lib/* root/lib\n\
        patchelf --set-rpath '$ORIGIN/../lib' root/bin/main; patchelf --print-rpath root/bin/main\n\
        rm -r lib; root/bin/main; ldd root/bin/main | grep -c libpart\n\
        gcc -c part.c -o o/part.o; ar qS libpart.a o/part.o; ranlib libpart.a; gcc main.c libpart.a -o static; ./static\n\
        objcopy --only-keep-debug static static.debug; strip static; objcopy --add-gnu-debuglink=static.debug static; ./static\n";
    twice(lay, Cmd::sh(cmd), Hit);
}

/// libtool compiles everything twice and keeps notes about it.
#[test]
fn libtool_with_fortran() {
    let lay = |s: &TestSpace| {
        fortran(s);
        s.write("part.c", "int part(void) { return 42; }\n");
    };
    let cmd = "set -e; lt() { libtool --quiet \"$@\"; }\n\
        lt --mode=compile --tag=CC gcc -c part.c -o part.lo\n\
        lt --mode=compile --tag=FC gfortran -c old.f -o old.lo || lt --mode=compile --tag=CC gfortran -c old.f -o old.lo\n\
        lt --mode=link --tag=CC gcc part.lo old.lo -o libboth.la -rpath /usr/local/lib -lgfortran\n\
        lt --mode=install install -c libboth.la $PWD/root/usr/local/lib/ 2>/dev/null || true; ls .libs\n";
    twice(lay, Cmd::sh(cmd), Hit);
}

/// The compiler's server that ccache and distcc put before it in the path, without any network.
#[test]
fn compilers_behind_masquerading_links() {
    let lay = |s: &TestSpace| {
        s.write("part.c", "int part(void) { return 42; }\n");
        s.symlink("/usr/bin/ccache", "bin/gcc");
        s.write("ccache.conf", "");
    };
    let cmd = "export PATH=$PWD/bin:$PATH CCACHE_DIR=$PWD/kept CCACHE_COMPILERCHECK=content; \
               gcc -O2 -c part.c -o one.o && gcc -O2 -c part.c -o two.o && cmp one.o two.o; rm -rf kept";
    twice(lay, Cmd::sh(cmd), Hit);
}

/// A Java virtual machine: many threads, a mapped archive of classes, files of its own in /tmp.
#[cfg(feature = "long")]
#[test]
fn java() {
    let lay = |s: &TestSpace| {
        s.write(
            "src/p/Part.java",
            "package p;\npublic class Part { public static int twice(int x) { return 2 * x; } }\n",
        );
        s.write(
            "src/Main.java",
            "public class Main { public static void main(String[] a) { System.out.println(p.Part.twice(21)); } }\n",
        );
    };
    let cmd = "mkdir -p out && javac -d out src/p/Part.java src/Main.java && \
               jar --create --file main.jar --date 2020-01-01T00:00:00Z --main-class Main -C out . && java -jar main.jar";
    twice(lay, Cmd::sh(cmd), Hit);
}
