//! Ctrl-C on a terminal, again and again, and terminals that are closed in mid-build.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use super::{left, small};
use crate::dice::Dice;
use crate::space::{Setting, TestSpace};
use crate::terminal::Session;
use crate::tree::assert_same;

#[test]
fn storms_of_control_c() {
    let longer = if std::env::var_os("RFS_LONG").is_some() {
        20
    } else {
        1
    };
    for nobody in [false, true] {
        let s = TestSpace::with(Setting {
            nobody,
            ..Setting::default()
        });
        let bare = small::bare(nobody);
        small::edit(&s, 0);
        let since = Instant::now();
        let _recorded = s.rfs(small::command(0)).expect_code(0);
        let takes = u64::try_from(since.elapsed().as_micros()).unwrap();
        for seed in 0..16 * longer {
            let dice = &mut Dice::new(seed);
            let version = dice.roll(2);
            small::edit(&s, version);
            let mut session = Session::start(&s, &small::command(seed + 1), true);
            thread::sleep(Duration::from_micros(dice.roll(takes)));
            let when = format!("seed {seed}, nobody {nobody}");
            let status = if dice.roll(4) == 0 {
                session.hang_up()
            } else {
                for _ in 0..=dice.roll(12) {
                    session.type_in("\u{3}");
                    thread::sleep(Duration::from_micros(dice.roll(5000)));
                }
                let (status, text) = session.end();
                assert!(
                    !text.contains("panicked") && !text.contains("error"),
                    "{when}: {text:?}"
                );
                status
            };
            // `setsid --wait` says 128 and the signal, or 1 when it was told of the signal itself.
            let fine = status.code().is_some() || matches!(status.signal(), Some(1 | 2));
            assert!(fine && status.code() != Some(125), "{when}: {status:?}");
            left::wait_gone(&s, &when);
            small::assert_sound(&s, version, bare, &when);
            let tree = &bare.trees[usize::try_from(version).unwrap()];
            if status.success() {
                assert_same(tree, &s.tree(), &when);
            }
            if seed % 4 == 3 {
                let run = s.rfs(small::command(1000 + seed));
                assert_eq!(
                    (run.code(), run.out().as_str()),
                    (0, small::SAID),
                    "{when}: {run:#?}"
                );
                assert_same(tree, &s.tree(), &when);
                small::assert_whole_cache(&s, &when);
                left::assert_unmounted(&s, &[], &when);
            }
        }
    }
}
