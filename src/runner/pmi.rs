//! The process manager interface, version 1, as MPICH's and Intel's MPI speak it to whoever has started
//! them: lines of `name=value` on a socket that each process inherits as `PMI_FD`. Each may put values under
//! keys and, after a barrier, get those of the others.
//!
//! What is put is kept in memory and bounded. What is not known is answered as the interface wants it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Longest line of a message; more is no message.
const LONGEST: usize = 4096;
const KEY: usize = 64;
const VALUE: usize = 1024;
/// Values of all processes together.
const MANY: usize = 1 << 20;
/// The name of the one set of values that there is.
const VALUES: &str = "rfs";

/// All processes of one command, and what they have told each other.
#[derive(Debug)]
pub struct Server {
    /// None after the process has gone.
    ranks: Vec<Option<Rank>>,
    state: State,
}

#[derive(Debug)]
struct Rank {
    wire: UnixStream,
    /// What was read of a line that has not ended.
    begun: Vec<u8>,
    /// It takes part, and others may wait for it.
    joined: bool,
}

/// What is to be done after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// A process wants all of them to end, or has gone while others may wait for it.
    Abort,
}

impl Server {
    /// For `n` processes on this machine, with the end that each of them inherits.
    ///
    /// # Errors
    /// When sockets cannot be had.
    pub fn new(n: usize) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (mut ranks, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let (wire, their) = UnixStream::pair()?;
            wire.set_nonblocking(true)?;
            theirs.push(their.into());
            ranks.push(Some(Rank {
                wire,
                begun: Vec::new(),
                joined: false,
            }));
        }
        let state = State::new(n);
        Ok((Self { ranks, state }, theirs))
    }

    /// Where messages come from, with the number of the process.
    pub fn wires(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let ranks = self.ranks.iter().enumerate();
        ranks
            .filter_map(|(at, rank)| Some((at, rank.as_ref()?.wire.as_fd())))
            .collect()
    }

    /// Reads and answers what has come from a process.
    pub fn hear(&mut self, rank: usize) -> Wish {
        let Some(Some(from)) = self.ranks.get_mut(rank) else {
            return Wish::None;
        };
        let mut buffer = [0; LONGEST];
        match from.wire.read(&mut buffer) {
            Ok(n @ 1..) => {
                from.begun.extend_from_slice(&buffer[..n]);
                self.lines(rank)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Wish::None,
            Ok(_) | Err(_) => {
                let joined = from.joined;
                self.ranks[rank] = None;
                if joined { Wish::Abort } else { Wish::None }
            }
        }
    }

    fn lines(&mut self, rank: usize) -> Wish {
        let mut wish = Wish::None;
        while let Some(from) = &mut self.ranks[rank] {
            let Some(end) = from.begun.iter().position(|byte| *byte == b'\n') else {
                if from.begun.len() > LONGEST {
                    self.ranks[rank] = None;
                }
                break;
            };
            let line: Vec<u8> = from.begun.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            match line.split([' ', '\n']).next() {
                Some("cmd=init") => from.joined = true,
                Some("cmd=finalize") => from.joined = false,
                Some("cmd=abort") => wish = Wish::Abort,
                Some(_) | None => {}
            }
            for (to, answer) in self.state.answer(rank, line.trim_end()) {
                self.say(to, &answer);
            }
        }
        wish
    }

    fn say(&mut self, to: usize, answer: &str) {
        let Some(Some(rank)) = self.ranks.get_mut(to) else {
            return;
        };
        // Each waits for its answer, so that there is room for one: who has none left does not read.
        if rank
            .wire
            .write_all(format!("{answer}\n").as_bytes())
            .is_err()
        {
            self.ranks[to] = None;
        }
    }
}

/// What has been put, and who waits at the barrier.
#[derive(Debug)]
struct State {
    n: usize,
    values: BTreeMap<String, String>,
    waiting: Vec<bool>,
}

impl State {
    fn new(n: usize) -> Self {
        // All on one node: blocks of consecutive processes, beginning at node 0, 1 node, n on it.
        let mapping = format!("(vector,(0,1,{n}))");
        Self {
            n,
            values: BTreeMap::from([("PMI_process_mapping".to_owned(), mapping)]),
            waiting: vec![false; n],
        }
    }

    /// The answers to a message, with the processes that get them.
    fn answer(&mut self, rank: usize, line: &str) -> Vec<(usize, String)> {
        let mut words = line.split(' ').filter_map(|word| word.split_once('='));
        let command = match words.next() {
            Some(("cmd", command)) => command,
            _ => "",
        };
        let field = |name: &str| {
            // The value of a put is the rest of the line.
            let (_, rest) = line.split_once(&format!(" {name}="))?;
            match name {
                "value" => Some(rest),
                _ => rest.split(' ').next(),
            }
        };
        let answer = match command {
            "init" => "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0".to_owned(),
            "get_maxes" => {
                format!("cmd=maxes kvsname_max={KEY} keylen_max={KEY} vallen_max={VALUE}")
            }
            "get_appnum" => "cmd=appnum appnum=0".to_owned(),
            "get_my_kvsname" => format!("cmd=my_kvsname kvsname={VALUES}"),
            "get_universe_size" => format!("cmd=universe_size size={}", self.n),
            "put" => match (field("key"), field("value")) {
                (Some(key), Some(value)) if self.put(key, value) => {
                    "cmd=put_result rc=0 msg=success".to_owned()
                }
                _ => "cmd=put_result rc=-1 msg=no_room_or_no_key".to_owned(),
            },
            "get" => match field("key").and_then(|key| self.values.get(key)) {
                Some(value) => format!("cmd=get_result rc=0 msg=success value={value}"),
                None => "cmd=get_result rc=-1 msg=key_not_found value=unknown".to_owned(),
            },
            "barrier_in" => {
                self.waiting[rank] = true;
                if self.waiting.contains(&false) {
                    return Vec::new();
                }
                self.waiting.fill(false);
                return (0..self.n)
                    .map(|to| (to, "cmd=barrier_out".to_owned()))
                    .collect();
            }
            "finalize" => "cmd=finalize_ack".to_owned(),
            "abort" => return Vec::new(),
            other => format!("cmd={other}_result rc=-1 msg=not_known"),
        };
        vec![(rank, answer)]
    }

    fn put(&mut self, key: &str, value: &str) -> bool {
        let fits = key.len() <= KEY && value.len() <= VALUE && self.values.len() < MANY;
        // What was put is never changed.
        let fits = fits && !key.is_empty() && !self.values.contains_key(key);
        if fits {
            self.values.insert(key.to_owned(), value.to_owned());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    #[test]
    fn processes_find_each_other() {
        let (mut server, theirs) = Server::new(2).unwrap();
        let mut ends: Vec<_> = theirs
            .into_iter()
            .map(|fd| BufReader::new(UnixStream::from(fd)))
            .collect();
        let mut ask = |rank: usize, text: &str| {
            ends[rank].get_mut().write_all(text.as_bytes()).unwrap();
            assert_eq!(server.hear(rank), Wish::None);
            let mut answer = String::new();
            if !text.contains("barrier_in") || rank == 1 {
                ends[rank].read_line(&mut answer).unwrap();
            }
            answer
        };
        assert!(ask(0, "cmd=init pmi_version=1 pmi_subversion=1\n").ends_with("rc=0\n"));
        assert_eq!(
            ask(1, "cmd=get_my_kvsname\n"),
            "cmd=my_kvsname kvsname=rfs\n"
        );
        assert_eq!(
            ask(1, "cmd=get_universe_size\n"),
            "cmd=universe_size size=2\n"
        );
        let put = "cmd=put kvsname=rfs key=a value=x=1 y z\n";
        assert_eq!(ask(0, put), "cmd=put_result rc=0 msg=success\n");
        assert!(ask(1, put).contains("rc=-1"), "once is enough");
        assert!(ask(1, "cmd=put kvsname=rfs key= value=1\n").contains("rc=-1"));
        assert_eq!(ask(0, "cmd=barrier_in\n"), "");
        assert_eq!(ask(1, "cmd=barrier_in\n"), "cmd=barrier_out\n");
        let got = "cmd=get_result rc=0 msg=success value=x=1 y z\n";
        assert_eq!(ask(1, "cmd=get kvsname=rfs key=a\n"), got);
        let mapping = ask(1, "cmd=get kvsname=rfs key=PMI_process_mapping\n");
        assert!(mapping.ends_with("value=(vector,(0,1,2))\n"), "{mapping}");
        assert!(ask(1, "cmd=get kvsname=rfs key=b\n").contains("rc=-1"));
        assert!(ask(1, "no message\n").contains("not_known"));
        assert!(ask(1, "cmd=init pmi_version=1\n").ends_with("rc=0\n"));
        assert_eq!(ask(1, "cmd=finalize\n"), "cmd=finalize_ack\n");
        drop(ends);
        assert_eq!(server.hear(1), Wish::None, "it had come to its end");
        assert_eq!(server.hear(0), Wish::Abort, "others may wait for it");
    }

    #[test]
    fn who_says_what_is_no_message_is_heard_no_more() {
        let (mut server, mut theirs) = Server::new(2).unwrap();
        let mut wire = UnixStream::from(theirs.remove(0));
        wire.write_all(b"cmd=abort exitcode=3\n").unwrap();
        assert_eq!(server.hear(0), Wish::Abort);
        for _ in 0..3 {
            let _gone = wire.write(&[b'x'; LONGEST]).is_err();
            server.hear(0);
        }
        assert_eq!(server.wires().len(), 1);
        drop(theirs);
        assert_eq!((server.hear(1), server.wires().len()), (Wish::None, 0));
        assert_eq!(server.hear(7), Wish::None);
    }
}
