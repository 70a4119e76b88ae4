//! What a command that was killed left half made.

use super::Engine;
use super::ledger::{Claim, Ledger};
use crate::base::Digest;
use crate::disk::{self, At, Disk};
use crate::rules::{Spec, Target, matching};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a job claims that is about to run.
pub(super) fn claim(spec: &Spec) -> Claim {
    let mut claim = Claim {
        files: Vec::new(),
        stars: Vec::new(),
        since: i64::MIN,
    };
    // Nobody takes a source away.
    let targets = spec.targets.iter();
    for target in targets.filter(|target| !target.flags().source_ok) {
        match target {
            Target::File(name, _) => claim.files.push(name.clone()),
            Target::Star(names, dir, _) => claim.stars.push((dir.clone(), names.as_str().into())),
        }
    }
    if let Ok(since) = SystemTime::now().duration_since(UNIX_EPOCH) {
        // The clock of files may be a tick late.
        claim.since = i64::try_from(since.as_nanos()).unwrap_or(0) - 20_000_000;
    }
    claim
}

/// The names that a claim is on and that were changed since.
fn changed(root: &Path, claim: &Claim) -> Vec<String> {
    let mut names = claim.files.clone();
    for (dir, expression) in &claim.stars {
        names.extend(matching(root, dir, expression));
    }
    names.retain(|name| {
        let found = root.join(name).symlink_metadata();
        found.is_ok_and(|meta| {
            let ctime = meta.ctime().saturating_mul(1_000_000_000) + meta.ctime_nsec();
            !meta.is_dir() && ctime >= claim.since
        })
    });
    names
}

/// Removes what jobs have left half made whose command was killed. To be called right after it died: later,
/// what lies there may be somebody's work.
///
/// # Errors
/// The system call that failed.
pub fn remove_half_made(root: &Path, dir: &Path, disk: Arc<dyn Disk>) -> disk::Result<()> {
    let mut ledger = Ledger::open(dir, disk.clone())?;
    for (job, claim) in ledger.abandoned() {
        for name in changed(root, &claim) {
            let path = root.join(&name);
            let made = ledger.get(&name).and_then(|thing| thing.digest);
            if made.is_none() || digest(&path) != made {
                disk.unlink(&path)?;
                ledger.remove(&name);
            }
        }
        ledger.end(job)?;
    }
    Ok(())
}

/// The digest of a file that can be read.
pub(super) fn digest(path: &Path) -> Option<Digest> {
    let file = File::open(path).at("open", path).ok()?;
    disk::hash(&file).ok().map(|(digest, _)| digest)
}

impl Engine<'_> {
    /// Sets aside what a killed command left half made.
    pub(super) fn rescue(&mut self) {
        if self.wish.dry {
            return;
        }
        for (job, claim) in self.ledger.abandoned() {
            let root = self.root.clone();
            for name in changed(&root, &claim) {
                if let Err(why) =
                    self.set_aside(&name, "a command that was killed left it half made")
                {
                    self.warn(why);
                }
            }
            let written = self.ledger.end(job);
            self.note(written);
            self.ledger.locks().release(job);
        }
    }
}
