//! Where steps of a build are, from their start to their end.

use super::{Space, text};
use std::os::unix::fs::PermissionsExt;

/// `./cc NAME`: tells where it may run. `./cc long`: looks again and again, at all its threads, one of which
/// starts late, and tells all that it has seen, until `there/over` is there.
const COMPILER: &str = r#"#!/usr/bin/python3
import os, sys, threading, time
def tell(*words):
    # In one piece: others write to the same pipe.
    os.write(1, (' '.join(map(str, words)) + '\n').encode())
def allowed(task):
    with open(f'/proc/self/task/{task}/status') as status:
        return next(line.split()[1] for line in status if line.startswith('Cpus_allowed_list'))
if sys.argv[1] != 'long':
    tell(sys.argv[1], allowed(os.getpid()))
    sys.exit()
there, seen, looks, late = os.environ['THERE'], set(), 0, None
open(there + '/long', 'w').close()
while not os.path.exists(there + '/over'):
    seen |= {allowed(task) for task in os.listdir('/proc/self/task')}
    looks += 1
    if not late and os.path.exists(there + '/half'):
        late = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
        late.start()
seen |= {allowed(task) for task in os.listdir('/proc/self/task')}
tell('long', *sorted(seen))
tell('looks', looks, len(os.listdir('/proc/self/task')))
os._exit(0)
"#;

/// While others start and end, and what the build may use changes: a step that runs stays where it is.
#[test]
fn nothing_moves_that_has_started() {
    let space = Space::new();
    std::fs::create_dir(space.there()).unwrap();
    space.write("cc", COMPILER);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(space.ws().join("cc"), mode).unwrap();
    let machine = rfs::runner::topology::read(&rfs::runner::topology::Source::Here).unwrap();
    let cpus: Vec<usize> = machine.allowed.iter().collect();
    let (first, last) = (cpus[0], *cpus.last().unwrap());
    assert_ne!(first, last, "the test needs two processors");
    let script = format!(
        "./cc long & long=$!
         until [ -e $THERE/long ]; do sleep 0.01; done
         for round in 1 2; do ./cc a & a=$!; ./cc b & wait $a $!; done
         taskset -cp {last} $$ >/dev/null; ./cc c
         : >$THERE/half
         taskset -cp {first} $$ >/dev/null; ./cc d; ./cc d
         taskset -cp {all} $$ >/dev/null; ./cc e & e=$!; ./cc f & wait $e $!
         : >$THERE/over; wait $long",
        all = machine.allowed
    );
    let args = ["build", "-j2", "--pin", "pack", "--", "sh", "-c", &script];
    let output = space
        .rfs(&args)
        .env("THERE", space.there())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let of = |name: &str| -> Vec<&str> {
        let lines = said.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter(|(who, _)| *who == name)
            .map(|(_, what)| what)
            .collect()
    };
    assert_eq!(of("long"), [first.to_string()], "{said}");
    assert_eq!(space.step("./cc long")["cpus"], first.to_string());
    // The others went by what there was. Of two, the first has the free place; the other one that, or the next.
    let pairs = [of("a"), of("b")].concat();
    let beside = pairs.iter().filter(|cpus| **cpus == last.to_string());
    assert!(pairs.len() == 4 && beside.count() >= 2, "{said}");
    assert_eq!(of("c"), [last.to_string()], "{said}");
    assert_eq!(of("d"), [first.to_string(), first.to_string()], "{said}");
    assert_eq!(of("e").len() + of("f").len(), 2, "{said}");
    let looks: Vec<usize> = of("looks")[0]
        .split(' ')
        .map(|n| n.parse().unwrap())
        .collect();
    assert!(looks[0] > 1 && looks[1] == 2, "{said}");
}
