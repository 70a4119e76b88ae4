//! Programs that lean on a filesystem, in a view and on a plain directory: what they print is the same. The end-to-end
//! tests run the same scripts under `rfs build`.
#![allow(clippy::unwrap_used, reason = "a test says why it fails")]

mod view;

use std::process::Command;
use view::{everywhere, sh};

fn compare(script: &str) {
    let plain = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(plain.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:#?}");
    let expected = String::from_utf8_lossy(&output.stdout);
    assert!(!expected.is_empty());
    let lines = |text: &str| {
        text.trim_end()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let expected = lines(&expected);
    everywhere(|_| {
        let found = lines(&sh(script));
        let differing = expected
            .iter()
            .zip(&found)
            .find(|(one, other)| one != other);
        assert_eq!(differing, None, "in the view on the right");
        assert_eq!(expected.len(), found.len());
    });
}

#[test]
fn git() {
    compare(include_str!("programs/git.sh"));
}

#[test]
fn sqlite_in_wal_mode() {
    compare(include_str!("programs/sqlite.sh"));
}

#[test]
fn archives_and_copies() {
    compare(include_str!("programs/archives.sh"));
}
