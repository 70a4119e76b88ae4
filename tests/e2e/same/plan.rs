//! A sequence: how a workspace is made, and what is done and run in it then. All of it is shell text
//! in small pieces, so that pieces can be left out, and printed for a hand to run.

use std::fmt::Write as _;

use crate::space::Setting;

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Edits, then a run.
    Edited,
    /// All is removed and made anew before the edits.
    Anew,
    /// Nothing at all is changed.
    Again,
    /// The edits are made when the run waits at the gate; see [`GATE`].
    Gated,
    /// The edits are made while the run goes on, no matter when; nothing is compared but what a
    /// further run does.
    Raced,
}

/// One run, and the edits that belong to it.
#[derive(Clone, Debug)]
pub struct Round {
    pub kind: Kind,
    pub edits: Vec<String>,
    pub cmd: String,
}

/// A sequence.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub setting: Setting,
    /// Both outputs of the command are one pipe, so that their order is seen.
    pub merged: bool,
    /// Each makes a part of the workspace.
    pub pieces: Vec<String>,
    pub rounds: Vec<Round>,
}

/// The part of a step in which it waits while somebody holds the gate. In a gated round a step that
/// goes through the gate is never served, since the number of the round is new.
pub const GATE: &str = "flock ../outside/gate true $(cat ../outside/round)";

/// Edits, one after the other also by the clock of the filesystem.
pub fn hand(edits: &[String]) -> String {
    let tick = ": > ../outside/t1; until : > ../outside/t2; [ ../outside/t2 -nt ../outside/t1 ]; do :; done";
    let edits = edits.iter().map(|edit| format!("{edit}\n{tick}\n"));
    format!("{tick}\n{}", edits.collect::<String>())
}

/// What the keeper of the gate does with `edits`: he holds the gate, says so, and edits when somebody
/// waits, unless the run ends before. Of a lock nobody knows that a process hears by it: the kernel believes what it
/// has seen of the workspace for its while, which a wrapped run is given.
pub fn keeper(edits: &str, wrapped: bool) -> String {
    let believed = if wrapped { "sleep 0.26" } else { ":" };
    format!(
        "exec 9> ../outside/gate; flock 9; echo held\n\
         waits() {{ grep -q -e \"-> FLOCK .*:$(stat -c %i ../outside/gate) \" /proc/locks; }}\n\
         until waits; do [ ! -e ../outside/ended ] || exit 3; sleep 0.002; done\n\
         {edits}\n{believed}\nexec 9>&-; exit 0"
    )
}

impl Plan {
    /// Whether things are done one after the other, so that the order of their time stamps is known.
    /// It is not when a directory is copied: in which order its names are read is open.
    pub fn in_order(&self) -> bool {
        let parallel = |text: &String| text.contains(" & ") || text.contains("cp -r");
        !self.pieces.iter().any(parallel) && !self.rounds.iter().any(|round| round.is_parallel())
    }

    /// Whether a run must be served when nothing has changed. Not if files are moved, copied, packed or
    /// looked at with their time stamps, which are new after each run, or change under another name.
    pub fn can_be_served(&self) -> bool {
        let keeps = |text: &String| {
            let words = ["mv ", "cp -p", "ln ", "stat -c", "tar cf"];
            text.contains("build.sh") && words.iter().any(|word| text.contains(word))
        };
        !self.pieces.iter().any(keeps)
    }

    /// The shell text that makes the workspace. What is there at first is old, and what is written by
    /// hand only is a little younger.
    pub fn making(&self) -> String {
        format!(
            "{}\nfind . -type f -exec touch -d '2020-01-01 UTC' {{}} +\n\
             touch -c -d '2021-01-01 UTC' {}",
            self.pieces.join("\n"),
            super::script::SOURCES.join(" ")
        )
    }

    /// The same sequence as a script that compares by itself.
    pub fn reproduction(&self) -> String {
        let mut text = format!(
            "# seed {}, {:?}; needs rfs in PATH\n\
             rm -rf /tmp/same && mkdir /tmp/same && cd /tmp/same && export RFS_CACHE_DIR=/tmp/same/cache LC_ALL=C.UTF-8\n\
             run() {{ n=$((n + 1)); \"$@\" > ../$how.$n.out 2> ../$how.$n.err; echo \"status $?\" >> ../$how.$n.err; rm -rf ../$how.$n; cp -a . ../$how.$n; rm -rf ../$how.$n/.rfs; }}\n\
             make_it() {{\n{}\n}}\n\
             tell() {{ how=$1; shift; n=0; rm -rf ws outside; mkdir ws outside; cd ws\n\
             : > ../outside/gate; echo 0 > ../outside/round; make_it\n",
            self.seed,
            self.setting,
            self.making()
        );
        for (n, round) in self.rounds.iter().enumerate() {
            let edits = hand(&round.edits);
            let cmd = &round.cmd;
            writeln!(text, "# round {n}, {:?}", round.kind).unwrap();
            match round.kind {
                Kind::Edited | Kind::Again => writeln!(text, "{edits}\nrun \"$@\" {cmd}").unwrap(),
                Kind::Anew => writeln!(
                    text,
                    "find . ../outside -mindepth 1 -delete; : > ../outside/gate; echo 0 > ../outside/round; make_it\n\
                     {edits}\nrun \"$@\" {cmd}"
                )
                .unwrap(),
                Kind::Gated => writeln!(
                    text,
                    "echo {n} > ../outside/round; rm -f ../outside/ended\n(\n{}\n) & sleep 0.1\n\
                     run \"$@\" {cmd}; : > ../outside/ended; wait",
                    keeper(&edits, true)
                )
                .unwrap(),
                Kind::Raced => writeln!(
                    text,
                    "(\n{edits}\n) & run \"$@\" {cmd}; wait # a race: may need several tries"
                )
                .unwrap(),
            }
        }
        text + "cd ..; }\n\
                tell bare env; tell wrapped rfs build -q --; for n in $(seq 0 99); do \
                [ ! -e bare.$n ] || { diff -r --no-dereference bare.$n wrapped.$n; for e in out err; do \
                diff bare.$n.$e wrapped.$n.$e; done; }; done; cd ~\n"
    }
}

impl Round {
    /// Whether the order of what the command says is open.
    pub fn is_parallel(&self) -> bool {
        self.cmd.contains(" -j")
    }
}
