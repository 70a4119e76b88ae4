//! Runs a command in a view of the working directory, as root, and prints what requests it made:
//! `view [--cached] COMMAND [ARGUMENT]...`

use rfs_fs::{Config, EnterOptions, FsError, Gate, Observer, Passthrough};
use std::collections::VecDeque;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};

struct Complain;

impl Observer for Complain {
    fn changed(&self, _path: &Path) {}

    fn failed(&self, error: &FsError) {
        writeln!(io::stderr(), "view: {error}").ok();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: VecDeque<OsString> = std::env::args_os().skip(1).collect();
    let mut config = Config::new(std::env::current_dir()?);
    if args.front().is_some_and(|arg| arg == "--cached") {
        args.pop_front();
        config.passthrough = Passthrough::Off;
    }
    let program = args.pop_front().ok_or("no command")?;
    let root = config.root.clone();
    let (sender, receiver) = mpsc::channel();
    // A thread can have a mount namespace of its own as well as a process can.
    let command = std::thread::spawn(move || -> io::Result<_> {
        let gate = Gate::new()?;
        let entered = gate.enter(&root, &EnterOptions::default());
        sender.send(gate).ok();
        entered.map_err(io::Error::other)?;
        std::env::set_current_dir(&root)?;
        Command::new(program).args(args).status()
    });
    let gate = receiver.recv()?;
    let connection = gate.receive()?;
    let mounted = rfs_fs::serve(connection, config, Arc::new(Complain))?;
    let status = command
        .join()
        .map_err(|_panic| "the command's thread panicked")??;
    writeln!(
        io::stderr(),
        "view: {status}, passthrough {}",
        mounted.passthrough()
    )?;
    for (op, n) in mounted.finish()?.iter() {
        writeln!(io::stderr(), "view: {n:8} {op}")?;
    }
    Ok(())
}
