//! The first things anybody does in a directory.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use std::fs;
use view::{everywhere, sh};

#[test]
fn a_file_is_written_read_and_removed() {
    everywhere(|_| {
        fs::write("a", "hello").unwrap();
        assert_eq!(fs::read_to_string("a").unwrap(), "hello");
        assert_eq!(fs::metadata("a").unwrap().len(), 5);
        fs::write("a", "hi").unwrap();
        assert_eq!(fs::read_to_string("a").unwrap(), "hi");
        assert_eq!(fs::metadata("a").unwrap().len(), 2);
        fs::remove_file("a").unwrap();
        assert!(!fs::exists("a").unwrap());
    });
}

#[test]
fn the_shell_works_in_it() {
    everywhere(|_| {
        sh("mkdir -p d/e && echo x > d/e/f && cp -a d g && ln -s f g/e/l && ln g/e/f g/h");
        assert_eq!(sh("cat g/e/l g/h"), "x\nx");
        assert_eq!(sh("ls g g/e"), "g:\ne\nh\n\ng/e:\nf\nl");
        sh("mv g i && rm -r d && mkfifo p && chmod 751 i && touch -d @1000000000.5 i/h");
        assert_eq!(
            sh("stat -c '%a %F' i p; stat -c '%h %.2Y' i/h i/e/f"),
            "751 directory\n644 fifo\n2 1000000000.50\n2 1000000000.50"
        );
        assert_eq!(
            sh("find . | sort | tr '\\n' ' '"),
            ". ./i ./i/e ./i/e/f ./i/e/l ./i/h ./p"
        );
        sh("rm -r i p");
        assert_eq!(sh("ls -A"), "");
    });
}

#[test]
fn programs_run_from_it() {
    everywhere(|_| {
        sh("cp /bin/true t; ./t; printf '#!/bin/sh\\necho ran' > s; chmod +x s");
        assert_eq!(sh("./s"), "ran");
    });
}
