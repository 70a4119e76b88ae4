//! Steps that are held back by pressure, as the kernel tells it of the machine or of a control group.

use super::{Space, text};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Says in `there` that it runs, and computes until another one says so, for a minute of its own time at most.
const COMPUTES: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(int n, char **arg)
{
    char name[200];
    snprintf(name, sizeof name, "%s/%s", getenv("THERE"), arg[1]);
    close(open(name, O_CREAT | O_WRONLY, 0644));
    snprintf(name, sizeof name, "%s/%s", getenv("THERE"), n > 2 ? arg[2] : arg[1]);
    while (access(name, F_OK)) {
        clock_t until = clock() + CLOCKS_PER_SEC / 50;
        if (until > 60 * CLOCKS_PER_SEC)
            return 1;
        while (clock() < until)
            ;
    }
    return 0;
}
"#;

/// The first runs until the second does.
const TWO: &str =
    "./cc one two & until [ -e $THERE/one ]; do sleep 0.01; done; ./cc two && wait $!";

fn space() -> Space {
    let space = Space::new();
    space.compile("cc", COMPUTES);
    std::fs::create_dir(space.there()).unwrap();
    space
}

/// A build of [`TWO`] that holds by these limits, once its log has told that the second step is held back.
struct Build {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Build {
    fn until_held(space: &Space, pressure: &str, by: &str) -> Self {
        let mut build = space.rfs(&["build", "--explain", "--pressure", pressure]);
        build.args(["--", "sh", "-c", TWO]);
        build.env("THERE", space.there()).env("RFS_LOG", "debug");
        let mut child = build.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let (mut line, mut all) = (String::new(), String::new());
        while !line.contains("is held back") {
            line.clear();
            let n = said.read_line(&mut line).unwrap();
            assert!(n > 0, "nobody was held back by {pressure}: {all}");
            all += &line;
        }
        assert!(line.ends_with(&format!("is held back: {by}\n")), "{line}");
        assert!(space.there().join("one").exists(), "{all}");
        assert!(!space.there().join("two").exists(), "{all}");
        Self { child, said }
    }

    /// It goes on to its end: what it says.
    fn end(mut self) -> String {
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

/// What is told of the two steps afterwards.
fn told(space: &Space, said: &str, by: &str) {
    let line = |step: &str| {
        let mut lines = said.lines();
        let found = lines.find(|line| line.contains(&format!("  ./cc {step}: ")));
        found.unwrap_or_else(|| panic!("no ./cc {step}: {said}"))
    };
    let (one, two) = (line("one two"), line("two"));
    assert!(!one.contains("held"), "{one}");
    assert!(
        two.contains("; held ") && two.ends_with(&format!(" by {by}")),
        "{two}"
    );
    let (one, two) = (space.step("./cc one two"), space.step("./cc two"));
    assert!(
        one["held_us"].is_null() && one["held_by"].is_null(),
        "{one}"
    );
    assert!(two["held_us"].as_u64().unwrap() > 0, "{two}");
    assert_eq!(two["held_by"], by, "{two}");
    let profile = text(&space.rfs(&["profile"]).output().unwrap().stdout);
    let mut lines = profile.lines();
    let line = lines.find(|line| line.contains("./cc two (held "));
    assert!(line.unwrap().ends_with(&format!(" by {by})")), "{profile}");
}

/// What the kernel would tell of a control group. As a whole: who reads it sees the old or the new text.
fn tell(group: &Path, resource: &str, avg10: &str) {
    let line = |what: &str| format!("{what} avg10={avg10} avg60=99.00 avg300=99.00 total=12345\n");
    let (new, file) = (
        group.join("new"),
        group.join(format!("{resource}.pressure")),
    );
    std::fs::write(&new, line("some") + &line("full")).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Held as long as the pressure is higher than the limit, by each of the three, and then let go though the
/// other step still runs.
#[test]
fn a_step_waits_until_the_pressure_is_gone() {
    for resource in ["cpu", "memory", "io"] {
        let space = space();
        let group = space.0.path().join("group");
        std::fs::create_dir(&group).unwrap();
        for other in ["cpu", "memory", "io"] {
            tell(&group, other, "39.90");
        }
        tell(&group, resource, "40.10");
        let by = format!("{resource} pressure");
        let limits = format!("cpu=40,memory=40,io=40,of={}", group.display());
        let build = Build::until_held(&space, &limits, &by);
        tell(&group, resource, "40.00");
        let said = build.end();
        told(&space, &said, &by);
    }
}

/// A limit on what the kernel does not tell of holds nobody, and that is said.
#[test]
fn pressure_that_cannot_be_felt_is_told() {
    let space = space();
    let limits = format!("cpu=0,of={}", space.ws().display());
    let mut build = space.rfs(&["build", "--pressure", &limits, "--", "sh", "-c", TWO]);
    let output = build.env("THERE", space.there()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("ws/cpu.pressure: No such file") && said.contains("nothing is held back"),
        "{said}"
    );
}

/// A control group of the second version, whose pressure the kernel tells.
struct Group {
    dir: PathBuf,
    /// Where its hierarchy was mounted for this.
    mounted: Option<tempfile::TempDir>,
}

impl Group {
    fn new() -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let there = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        });
        let mounted = there.is_none().then(|| tempfile::tempdir().unwrap());
        let top = there.unwrap_or_else(|| {
            let place = mounted.as_ref().unwrap().path().to_owned();
            let mut mount = Command::new("mount");
            mount.args(["-t", "cgroup2", "cgroup2"]).arg(&place);
            assert!(mount.status().unwrap().success(), "the test needs cgroup2");
            place
        });
        let dir = top.join(format!("rfs-test-pressure-{}", std::process::id()));
        let made = std::fs::create_dir(&dir);
        made.unwrap_or_else(|error| panic!("{}: {error}: the test makes one", dir.display()));
        Self { dir, mounted }
    }

    /// Somebody in it who computes, on this processor.
    fn computes(&self, cpu: usize) -> Child {
        let script = format!(
            "echo $$ >{}/cgroup.procs && exec taskset -c {cpu} sh -c 'while :; do :; done'",
            self.dir.display()
        );
        Command::new("sh").args(["-c", &script]).spawn().unwrap()
    }

    fn some_avg10(&self) -> f64 {
        let text = std::fs::read_to_string(self.dir.join("cpu.pressure")).unwrap();
        let (_, rest) = text.split_once("some avg10=").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        while std::fs::remove_dir(&self.dir)
            .is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
        {
            std::thread::yield_now();
        }
        if let Some(place) = &self.mounted {
            let _gone = Command::new("umount").arg(place.path()).status();
        }
    }
}

/// The same with pressure that is real: three who compute on one processor.
#[test]
fn a_step_waits_for_real_pressure_of_a_control_group() {
    let space = space();
    let machine = rfs::runner::topology::read(&rfs::runner::topology::Source::Here).unwrap();
    let cpu = machine.allowed.iter().last().unwrap();
    let group = Group::new();
    let mut busy: Vec<Child> = (0..3).map(|_| group.computes(cpu)).collect();
    while group.some_avg10() < 8.0 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let limits = format!("cpu=6,of={}", group.dir.display());
    let build = Build::until_held(&space, &limits, "cpu pressure");
    for one in &mut busy {
        one.kill().unwrap();
        one.wait().unwrap();
    }
    let said = build.end();
    told(&space, &said, "cpu pressure");
    assert!(group.some_avg10() <= 6.0);
}
