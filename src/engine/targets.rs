//! What lies at the names of targets: found in place, put in place from the cache, set aside where people
//! have been at work, removed where nobody makes it any more.

use super::judge::outputs;
use super::ledger::Thing;
use super::{Engine, Start};
use crate::base::{Kind, Output, Record, What};
use crate::cache::Staged;
use crate::disk;
use crate::rules::{Spec, Target};
use std::path::{Path, PathBuf};

/// Where files of people's go that are in the way of a target, below `.rfs`.
const QUARANTINE: &str = ".rfs/quarantine";

/// Where what failed jobs have written goes, if it is wanted.
const FAILED: &str = ".rfs/failed";

/// Why files of people's are moved.
const NOT_OURS: &str = "it stood in the place of a target, and no job has made it as it is";

impl Engine<'_> {
    /// Whether all outputs of a record are there.
    pub(super) fn in_place(&self, record: &Record) -> bool {
        record.outputs.iter().all(|output| self.is_in_place(output))
    }

    fn is_in_place(&self, output: &Output) -> bool {
        let path = output.name.at(&self.root);
        let world = &self.known.world;
        let seen = world.look(&path).seen;
        match &output.what {
            What::Absent => seen.is_absent(),
            What::File {
                digest, size, mode, ..
            } => {
                seen.kind == Kind::File
                    && seen.id.size == *size
                    && seen.mode[0] == *mode
                    && world.digest(&path, &seen) == Ok(*digest)
            }
            What::Link(text) => seen.kind == Kind::Link && seen.text == *text,
            What::Dir(_) => seen.kind == Kind::Dir,
            What::Fifo(_) => seen.kind == Kind::Fifo,
            What::HardLink(other) => {
                let other = world.look(&other.at(&self.root)).seen;
                !seen.is_absent() && seen.id.ino == other.id.ino
            }
            What::Attributes(mode) => seen.mode[0] == *mode,
        }
    }

    /// Notes what a job has made.
    pub(super) fn remember(&mut self, spec: &Spec, record: &Record) {
        for output in &record.outputs {
            let digest = match &output.what {
                What::File { digest, .. } => Some(*digest),
                What::HardLink(_) => {
                    let path = output.name.at(&self.root);
                    let seen = self.known.world.look(&path).seen;
                    self.known.world.digest(&path, &seen).ok()
                }
                What::Link(_) | What::Fifo(_) => None,
                What::Absent | What::Dir(_) | What::Attributes(_) => continue,
            };
            if let Some(name) = output
                .name
                .as_path()
                .to_str()
                .filter(|name| output.name.inside() && !spec.ignores(name))
                .filter(|name| !self.rules.sources.names(name))
            {
                let job = spec.identity;
                self.ledger.put(name, Thing { digest, job });
            }
        }
    }

    /// Puts the outputs of a record in place.
    ///
    /// # Errors
    /// Why that is not possible: the job must run.
    pub(super) fn serve(&mut self, spec: &Spec, record: &Record) -> Result<(), String> {
        let cache = self.known.cache.clone().ok_or("there is no cache")?;
        let names: Vec<String> = outputs(record).map(str::to_owned).collect();
        let root = self.root.clone();
        let stage = root.join(".rfs/stage");
        let mut dirs: Vec<PathBuf> = Vec::new();
        for name in &names {
            if !self.rules.sources.names(name) {
                self.set_aside(name, NOT_OURS)?;
            }
            dirs.extend(root.join(name).parent().map(Path::to_owned));
        }
        let stale = self.no_longer_made(spec, &names);
        self.prepare(stale, dirs)?;
        let staged =
            Staged::prepare(&cache, record, &root, &stage).map_err(|error| error.to_string())?;
        let touched = staged.commit().map_err(|error| error.to_string())?;
        let world = &self.known.world;
        for path in record
            .outputs
            .iter()
            .map(|output| output.name.at(&root))
            .chain(touched)
        {
            world.changed(&path);
            world.tell_stale(&path);
        }
        self.remember(spec, record);
        Ok(())
    }

    /// What must be gone and what must be there before a job runs.
    ///
    /// # Errors
    /// Something is in the way and cannot be set aside.
    pub(super) fn wash(&mut self, spec: &Spec) -> Result<Start, String> {
        let mut start = Start {
            argv: spec.argv.clone(),
            env: spec.env.clone(),
            remove: Vec::new(),
            make: Vec::new(),
            views: self.answers.views_of(spec),
        };
        for (at, real) in &start.views {
            start.make.extend([at.clone(), real.clone()]);
        }
        for target in &spec.targets {
            let Target::File(name, flags) = target else {
                continue;
            };
            let path = self.path(name);
            start.make.extend(path.parent().map(Path::to_owned));
            let stays = flags.incremental && !self.wish.from_nothing;
            if stays || (flags.source_ok && self.rules.sources.names(name)) {
                continue;
            }
            self.set_aside(name, NOT_OURS)?;
            if self.exists(name) {
                start.remove.push(path);
            }
        }
        // It forgets whose they are.
        for path in self.no_longer_made(spec, &[]) {
            if !start.remove.contains(&path) {
                start.remove.push(path);
            }
        }
        start.make.retain(|dir| !dir.is_dir());
        start.make.dedup();
        Ok(start)
    }

    /// Makes the directories that targets are said to lie in: programs look for them before they look for
    /// files in them, as a compiler does with `-I`.
    ///
    /// # Errors
    /// The system call that failed.
    pub(super) fn make_dirs(&mut self) -> Result<(), String> {
        if self.wish.dry {
            return Ok(());
        }
        let dirs = self
            .rules
            .dirs()
            .into_iter()
            .map(|dir| self.root.join(dir))
            .collect();
        self.prepare(Vec::new(), dirs)
    }

    /// Removes files and makes directories, inside the view where there is one.
    fn prepare(&mut self, remove: Vec<PathBuf>, make: Vec<PathBuf>) -> Result<(), String> {
        let mut make: Vec<PathBuf> = make.into_iter().filter(|dir| !dir.is_dir()).collect();
        make.dedup();
        if remove.is_empty() && make.is_empty() {
            return Ok(());
        }
        let touched: Vec<PathBuf> = remove.iter().chain(&make).cloned().collect();
        self.run.prepare(remove, make)?;
        for path in touched {
            self.known.world.changed(&path);
        }
        Ok(())
    }

    /// Files that the job made earlier and now has not, as far as nobody else has been at them.
    fn no_longer_made(&mut self, spec: &Spec, now: &[String]) -> Vec<PathBuf> {
        if !spec
            .targets
            .iter()
            .any(|target| matches!(target, Target::Star(..)))
        {
            return Vec::new();
        }
        let mut stale = Vec::new();
        for name in self.ledger.of(spec.identity) {
            if now.contains(&name) {
                continue;
            }
            if self.is_ours(&name) {
                stale.push(self.path(&name));
            }
            self.ledger.remove(&name);
        }
        stale
    }

    /// Whether a file is as a job has made it.
    fn is_ours(&mut self, name: &str) -> bool {
        // Another command may have made it since this one began.
        self.is_as_made(name) || (self.ledger.refresh().is_ok() && self.is_as_made(name))
    }

    fn is_as_made(&self, name: &str) -> bool {
        let path = self.path(name);
        let world = &self.known.world;
        let seen = world.look(&path).seen;
        match (self.ledger.get(name), seen.kind) {
            (Some(thing), Kind::File) => match thing.digest {
                Some(digest) => world.digest(&path, &seen) == Ok(digest),
                None => false,
            },
            (Some(thing), Kind::Link | Kind::Fifo) => thing.digest.is_none(),
            (Some(_) | None, _) => false,
        }
    }

    /// Moves what stands in the place of a target, and no job has made as it is, out of the way. An empty file is nobody's work.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(super) fn set_aside(&mut self, name: &str, why: &str) -> Result<(), String> {
        let path = self.path(name);
        let seen = self.known.world.look(&path).seen;
        let nothing = seen.kind == Kind::File && seen.id.size == 0;
        if seen.is_absent() || nothing || self.is_ours(name) {
            return Ok(());
        }
        if seen.kind == Kind::Dir {
            return Err(format!("{name} is a directory, and a target has its name"));
        }
        let aside = self
            .move_to(QUARANTINE, name)
            .map_err(|error| error.to_string())?;
        self.warn(format!("{name} is moved to {aside}: {why}"));
        Ok(())
    }

    /// Moves a file out of the way. Tells the name that it has now: `PLACE/NAME`, or, where something is kept by that
    /// name, `PLACE/~N~/NAME`.
    fn move_to(&self, place: &str, name: &str) -> disk::Result<String> {
        let path = self.path(name);
        let mut n = 0;
        loop {
            let aside = match n {
                0 => format!("{place}/{name}"),
                n => format!("{place}/~{n}~/{name}"),
            };
            n += 1;
            let to = self.root.join(&aside);
            if to.symlink_metadata().is_ok() {
                continue;
            }
            if let Some(dir) = to.parent() {
                let made = self.disk.mkdir_all(dir, 0o777);
                let code = made
                    .as_ref()
                    .err()
                    .and_then(|error| error.source.raw_os_error());
                if matches!(code, Some(libc::EEXIST | libc::ENOTDIR)) {
                    // A file is kept by the name of the directory.
                    continue;
                }
                made?;
            }
            self.disk.rename(&path, &to)?;
            self.known.world.changed(&path);
            self.known.world.tell_stale(&path);
            return Ok(aside);
        }
    }

    /// Keeps what a job left that has failed, where that is wanted.
    pub(super) fn keep_failed(&mut self, names: &[String]) {
        if !self.wish.keep_failed {
            return;
        }
        for name in names {
            if self.rules.sources.names(name) || !self.exists(name) {
                continue;
            }
            match self.move_to(FAILED, name) {
                Ok(aside) => self.warn(format!("what is left of {name} is {aside}")),
                Err(error) => self.warn(error.to_string()),
            }
        }
    }

    /// Removes what a job left that has failed.
    pub(super) fn remove_made(&mut self, names: &[String]) {
        let ours = names.iter().filter(|name| !self.rules.sources.names(name));
        let there: Vec<PathBuf> = ours.map(|name| self.path(name)).collect();
        if let Err(why) = self.prepare(there, Vec::new()) {
            self.warn(why);
        }
        for name in names {
            self.ledger.remove(name);
        }
    }

    /// Removes what was made by a job of a rule that is no more.
    pub(super) fn remove_orphan(&mut self, name: &str) {
        if self.ledger.get(name).is_none() || self.rules.sources.names(name) {
            return;
        }
        if self.is_ours(name) && !self.wish.dry {
            self.warn(format!("{name} is removed: no rule makes it any more"));
            self.remove_made(&[name.to_owned()]);
        }
    }
}
