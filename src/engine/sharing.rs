//! Several commands in one workspace: what another one is at is waited for, and looked at again then.

use super::Engine;
use super::graph::Stage;
use super::rescue::claim;
use crate::base::JobId;

impl Engine<'_> {
    /// Takes the lock of a job that is to change its targets. If another command has it, the job is
    /// looked at again when it is free.
    pub(super) fn lock(&mut self, job: JobId) -> bool {
        if self.graph[job].is_locked {
            return true;
        }
        let identity = self.graph[job].spec.identity;
        if !self.ledger.locks().take(identity) {
            self.graph[job].stage = Stage::Elsewhere;
            self.elsewhere.push(job);
            return false;
        }
        self.graph[job].is_locked = true;
        if self.ledger.locks().alone() {
            return true;
        }
        // Another command may have made it since its records were looked at.
        self.look_again(job);
        false
    }

    fn look_again(&mut self, job: JobId) {
        let own = &mut self.graph[job];
        own.records = None;
        own.stage = Stage::Check;
        self.todo.push_back(job);
    }

    /// Asks for the locks that other commands had.
    pub(super) fn ask_for_locks(&mut self) {
        if self.stopping {
            self.elsewhere.clear();
        }
        for job in std::mem::take(&mut self.elsewhere) {
            if self.ledger.locks().take(self.graph[job].spec.identity) {
                self.graph[job].is_locked = true;
                self.look_again(job);
            } else {
                self.elsewhere.push(job);
            }
        }
    }

    /// A job is about to change its targets.
    pub(super) fn begin(&mut self, job: JobId) {
        let spec = self.graph[job].spec.clone();
        let written = self.ledger.begin(spec.identity, claim(&spec));
        self.note(written);
    }

    /// A job changes nothing any more.
    pub(super) fn unlock(&mut self, job: JobId) {
        if !std::mem::replace(&mut self.graph[job].is_locked, false) {
            return;
        }
        let identity = self.graph[job].spec.identity;
        let written = self.ledger.end(identity);
        self.note(written);
        self.ledger.locks().release(identity);
    }
}
