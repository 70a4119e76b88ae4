//! A program is about to start: serve it, or open a step for it.

use super::Watch;
use super::close::Fate;
use super::descriptors::{is_unseen, stdin_is, unseen};
use super::jobs::is_of_spawner;
use super::jobserver;
use super::model::Model;
use super::tool::Tool;
use super::usage::cpu_us;
use crate::base::{
    Access, Cause, Change, Cost, Digest, JobId, Miss, Name, Output, Placement, Record, Stamp,
    Start, Stdin, What,
};
use crate::cache;
use crate::cache::lookup::{Match, lookup};
use crate::cache::serve::{ServeError, Staged};
use crate::record::{Step, Wrote};
use crate::report::{Event as Report, Live, Step as Told, Verdict};
use crate::store;
use crate::store::graph::{Done, Fate as Kept, Step as Went};
use crate::world::{Look, listing};
use rfs_tracer::event::{Exec, ExecAnswer, Fd, FdTarget, OwnFds, Part};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Exit status of a command that we have to make fail.
const FAILED: i32 = 125;

impl Watch {
    /// Whether a program that is about to start is but a part of the step around it; if so, it is one now.
    pub(super) fn start_part(&self, exec: &Exec, fds: &dyn OwnFds) -> Option<Part> {
        let tool = Tool::of(exec, &self.config.policy);
        let mut model = self.model();
        let at = model.step_of(exec.pid)?;
        let proc = model.procs.get(&exec.pid);
        let folds = match self.config.jobs {
            // A job is a step of its own however small its program is, and nothing inside it is.
            Some(_) => !is_of_spawner(&model, Some(at), exec.pid),
            None => tool.folds(proc.map(|proc| &proc.tool), &self.config.policy),
        };
        if !folds {
            return None;
        }
        self.chance_of(&mut model, Some(at), &tool);
        self.starts_with(&mut model, Some(at), &fds.high());
        self.loads(&mut model, at, exec);
        let part = match tool.brief {
            true => Part::Brief,
            false => Part::Noted,
        };
        model.enter(exec.pid, at, tool);
        Some(part)
    }

    /// Decides about a program that is about to start and is no part of another step.
    pub(super) fn start(&self, mut exec: Exec, fds: &dyn OwnFds) -> ExecAnswer {
        let tool = Tool::of(&exec, &self.config.policy);
        let mut model = self.model();
        for child in &exec.children {
            model.born(*child, Some(exec.pid));
        }
        let parent = model.step_of(exec.pid);
        let limits = model.procs.get(&exec.pid).and_then(|proc| proc.limits);
        self.chance_of(&mut model, parent, &tool);
        drop(model);
        let completed = match self.config.jobs.as_ref().and(parent) {
            Some(_) => self.complete_job(&mut exec, fds),
            None => fds.complete(&mut exec),
        };
        if !completed {
            return ExecAnswer::Run;
        }
        let fifos = jobserver::leave_out(&mut exec, self.config.tokens);
        let mut model = self.model();
        model.jobservers.extend(fifos);
        self.starts_with(&mut model, parent, &exec.fds);
        drop(model);
        if let Some(jobs) = &self.config.jobs {
            return self.start_job(&**jobs, exec, tool, parent);
        }

        let key = match parent {
            None if self.config.shell => Err("it is the shell of others".to_owned()),
            Some(_) | None => self.key(&exec, &tool.name, limits),
        };
        let mut miss = Miss::Off;
        let mut bytes = 0;
        if let (Ok(key), Some(cache), false) = (&key, &self.cache, self.config.rerun) {
            let began = Instant::now();
            let loaded = cache.load(key);
            if let Some(damage) = loaded.damaged {
                self.sink.take(Report::Warning(damage));
            }
            if let Some(error) = loaded.unreadable {
                self.unreadable(&error);
            }
            bytes = memory(&loaded.records);
            match lookup(loaded.records, &self.world, |stdin| {
                stdin_is(stdin, &exec.fds, self.world.root())
            }) {
                Ok(found) if exec.children.is_empty() && self.may_serve(&found.record) => {
                    match self.serve(&exec, key, found, parent, began, fds) {
                        Ok(answer) => return answer,
                        Err(why) => miss = why,
                    }
                }
                Ok(_) => miss = Miss::Unknown,
                Err(why) => miss = why,
            }
        }
        if let (Ok(key), Some(cache), true) = (&key, &self.cache, self.config.rerun) {
            bytes = memory(&cache.load(key).records);
        }
        self.wait_for_room(exec.pid, parent, &tool, bytes);
        self.world.follow();
        self.open_step(exec, tool, parent, key, miss, None);
        ExecAnswer::Run
    }

    /// A program starts with descriptors, to some of which nobody sees it write.
    fn starts_with(&self, model: &mut Model, parent: Option<usize>, fds: &[Fd]) {
        let is_hidden = |fd: &Fd| matches!(fd.target, FdTarget::Tty(_)) && is_unseen(fd);
        if fds.iter().any(is_hidden) {
            self.sink.live(Live::Unseen);
        }
        if let Some(at) = parent {
            unseen(model, at, fds);
        }
    }

    /// Tells, once, that the cache cannot be read.
    fn unreadable(&self, error: &store::Error) {
        if !self.told_unreadable.swap(true, Ordering::Relaxed) {
            let why = format!("{error}; steps are run that may be in the cache");
            self.sink.take(Report::Warning(why));
        }
    }

    fn may_serve(&self, record: &Record) -> bool {
        !self.config.strict_clock || record.notes.is_empty()
    }

    /// Tools that exist to tell the time or give random numbers.
    fn chance_of(&self, model: &mut Model, parent: Option<usize>, tool: &Tool) {
        let known = self.config.policy.chance.contains(&tool.name);
        if let (Some(at), true) = (parent, known) {
            self.chance_at(model, at, &format!("the clock or chance ({})", tool.name));
        }
    }

    /// The kernel reads the program and its interpreters.
    pub(super) fn loads(&self, model: &mut Model, at: usize, exec: &Exec) {
        for walk in std::iter::once(&exec.program).chain(&exec.interpreters) {
            self.read_at(model, at, walk, Access::KIND | Access::MODE | Access::REG);
        }
    }

    pub(super) fn open_step(
        &self,
        exec: Exec,
        tool: Tool,
        parent: Option<usize>,
        key: Result<Digest, String>,
        miss: Miss,
        job: Option<JobId>,
    ) {
        let mut model = self.model();
        let number = u32::try_from(model.steps.len()).unwrap_or(u32::MAX);
        let mut step = Step::new(number, parent, exec.pid, title(&exec), now());
        step.miss = miss;
        step.job = job;
        step.umask = exec.umask;
        step.owner = (exec.ids[1], exec.ids[3]);
        step.cwd.clone_from(&exec.cwd);
        step.program.clone_from(&exec.program.path);
        step.argv.clone_from(&exec.argv);
        step.start = self.given(&exec);
        step.fds.clone_from(&exec.fds);
        step.cpu_before = cpu_us(exec.pid);
        step.held = self.hold.was_held(exec.pid);
        if let (Ok(key), Some(parent)) = (&key, parent) {
            model.steps[parent].inner.push(*key);
        }
        match key {
            Ok(key) => step.key = Some(key),
            Err(why) => step.refuse(why),
        }
        if !exec.children.is_empty() {
            step.refuse("starts with children that the program before it left running");
        }
        self.privileges_lost(&exec, &mut step);
        if self.config.policy.never(&tool.name, &exec.argv) {
            let why = format!("{} is never served", title(&exec));
            step.refuse(why.as_str());
            if let Some(parent) = parent {
                model.up(parent, |step| {
                    step.refuse(why.as_str());
                    true
                });
            }
        }
        let at = model.steps.len();
        self.sink.live(Live::Began {
            number,
            parent: parent.and_then(|at| u32::try_from(at).ok()),
            title: &step.title,
        });
        model.steps.push(step);
        self.pin(&mut model, at, &exec, &tool);
        self.chance_of(&mut model, Some(at).filter(|_| parent.is_none()), &tool);
        self.loads(&mut model, at, &exec);
        for entry in exec.fds.iter().filter(|entry| entry.fd > 2) {
            let readable = entry.flags & libc::O_ACCMODE != libc::O_WRONLY;
            if readable {
                self.note_file(&mut model, at, tool.opened(), &entry.target);
            }
        }
        model.enter(exec.pid, at, tool);
    }

    /// Puts the outputs in place, replays what was printed, and ends the process.
    ///
    /// # Errors
    /// Nothing was changed and the step must run.
    fn serve(
        &self,
        exec: &Exec,
        key: &Digest,
        found: Match,
        parent: Option<usize>,
        began: Instant,
        fds: &dyn OwnFds,
    ) -> Result<ExecAnswer, Miss> {
        let Match { record, looks } = found;
        let Some(cache) = &self.cache else {
            return Err(Miss::Off);
        };
        let root = self.world.root();
        if !fds.ready_to_exit() {
            return Err(Miss::Blob(
                "the process cannot be ended in its call".to_owned(),
            ));
        }
        let printed = record.chunks.first().map(|chunk| chunk.fd);
        let moved = matches!(record.stdin, Stdin::File { .. }).then_some(0);
        // What may be done to one of its descriptors may be done to all.
        if let Some(Err(error)) = printed.or(moved).map(|fd| fds.reach(fd)) {
            let why = format!("the descriptors of the process cannot be reached: {error}");
            return Err(Miss::Blob(why));
        }
        let staged =
            Staged::prepare(cache, &record, root, &self.config.stage).map_err(|error| {
                if let ServeError::Cache(damage @ cache::Error::Damaged { .. }) = &error {
                    self.sink.take(Report::Warning(damage.to_string()));
                }
                Miss::Blob(error.to_string())
            })?;

        for output in &record.outputs {
            let path = output.name.at(root);
            self.world
                .keep(&path, &self.world.last(&path), in_place(output));
        }

        let mut model = self.model();
        if let Some(name) = self.contested(&model, parent, &record, &looks) {
            return Err(Miss::Changed(Box::new(Cause::of(name, Change::Content))));
        }
        if let Some(at) = parent {
            self.pass_on(&mut model, at, &record, &looks);
        }
        let at = self.writes(&mut model, exec, parent, &record);
        drop(model);

        let put = staged.commit();
        for output in &record.outputs {
            let path = output.name.at(root);
            self.world.forget(&path);
            if put.is_err() {
                self.world.tell_stale(&path);
            }
        }
        if let Ok(touched) = &put {
            for path in touched {
                self.world.forget(path);
                self.world.tell_stale(path);
            }
        }
        let mut model = self.model();
        model.steps[at].closed = true;
        model.steps[at].paths.clear();
        if let Err(error) = put {
            let why = format!("an output could not be served: {error}");
            model.up(at, |step| {
                step.refuse(why.as_str());
                true
            });
            drop(model);
            return self.half_way(exec, error);
        }
        if !record.outputs.is_empty() {
            model.changing(exec.pid);
        }
        drop(model);

        let broken = self.replay(exec, &record, parent, fds);
        let status = record.status;
        let start = self.given(exec);
        self.tell_hit(at, key, record, start, began);
        self.end_served(exec, status);
        Ok(match broken {
            Some(signal) => ExecAnswer::Signal(signal),
            None => ExecAnswer::Exit(status),
        })
    }

    /// Outputs could not be put in place.
    ///
    /// # Errors
    /// The tree is as it was: the step must run.
    fn half_way(&self, exec: &Exec, error: ServeError) -> Result<ExecAnswer, Miss> {
        if !matches!(error, ServeError::HalfWay { .. }) {
            return Err(Miss::Blob(error.to_string()));
        }
        // It would find what it has not made.
        let title = title(exec);
        self.sink.take(Report::Warning(format!(
            "{title} fails, for its outputs could not be put in place: {error}"
        )));
        self.end(exec.pid, Fate::Exited(FAILED), &[]);
        Ok(ExecAnswer::Exit(FAILED))
    }

    /// What a served step looked at, the steps around it have looked at.
    fn pass_on(&self, model: &mut Model, at: usize, record: &Record, looks: &[Look]) {
        let root = self.world.root();
        for (dep, look) in record.deps.iter().zip(looks) {
            let path = dep.name.at(root);
            self.note(model, at, &path, look, dep.access.without(Access::LIST));
            if dep.access.has(Access::LIST) {
                // It was read a moment ago to check the record.
                let names = listing::read(&path, root).unwrap_or_default();
                self.list_at(model, at, &path, &names);
            }
        }
    }

    /// Opens a step that is about to make the outputs of a record: until it is closed, whoever else changes
    /// one of them does so at the same time. Gives its place.
    fn writes(
        &self,
        model: &mut Model,
        exec: &Exec,
        parent: Option<usize>,
        record: &Record,
    ) -> usize {
        let at = model.steps.len();
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        model
            .steps
            .push(Step::new(number, parent, exec.pid, title(exec), now()));
        for output in &record.outputs {
            let path = output.name.at(self.world.root());
            let before = self.world.change(&path, in_place(output));
            let parents = self.parents(&path);
            let seen = (&before.seen, before.changes);
            let mut how = how(output);
            if how.content() && (!in_place(output) || before.seen.is_absent()) {
                how |= Wrote::NAME;
            }
            model.write(at, before.id, how, Access::NONE, seen, &parents);
            model.up(at, |step| {
                if matches!(output.what, What::Dir(_))
                    && step
                        .paths
                        .get(&before.id)
                        .is_some_and(|entry| entry.first.is_absent())
                {
                    step.made.insert(before.id);
                }
                true
            });
        }
        for dir in record.dirs.iter().filter(|dir| dir.always) {
            let path = dir.name.at(self.world.root());
            model.name_in(at, self.world.last(&path).id);
        }
        at
    }

    /// A path that another step has changed since the record was found to hold, or may be changing.
    fn contested(
        &self,
        model: &Model,
        parent: Option<usize>,
        record: &Record,
        looks: &[Look],
    ) -> Option<Name> {
        let chain = model.chain(parent?);
        let deps = record.deps.iter().zip(looks);
        let changed = deps.filter(|(_, look)| self.world.changes(look.id) != look.changes);
        let outputs = record.outputs.iter().filter(|output| {
            let id = self.world.last(&output.name.at(self.world.root())).id;
            !model.rivals(&chain, id).is_empty()
        });
        let names = changed.map(|(dep, _)| &dep.name);
        names
            .chain(outputs.map(|output| &output.name))
            .next()
            .cloned()
    }

    /// Writes what was printed. Gives the signal that ends the process when nobody reads any more.
    fn replay(
        &self,
        exec: &Exec,
        record: &Record,
        parent: Option<usize>,
        fds: &dyn OwnFds,
    ) -> Option<i32> {
        for chunk in &record.chunks {
            let fd = exec.fds.iter().find(|fd| fd.fd == chunk.fd);
            if let Some(fd) = fd {
                self.printed(exec.pid, parent, fd, &chunk.bytes);
            }
            if let Err(error) = fds.write_all(chunk.fd, &chunk.bytes) {
                if error.raw_os_error() == Some(libc::EPIPE) {
                    if let (Some(at), Some(fd)) = (parent, fd) {
                        let lasting = !record.outputs.is_empty();
                        self.model().unread(at, &fd.target, lasting);
                    }
                    return Some(libc::SIGPIPE);
                }
                let why = format!("replaying the output of {}: {error}", record.title);
                self.sink.take(Report::Warning(why));
            }
        }
        if let Stdin::File { left, .. } = record.stdin {
            self.moved(exec.pid, &exec.fds);
            let _ = fds.seek(0, left).is_ok();
        }
        None
    }

    fn tell_hit(&self, at: usize, key: &Digest, record: Arc<Record>, start: Start, since: Instant) {
        let mut model = self.model();
        let step = &model.steps[at];
        let (number, title, parent) = (step.number, step.title.clone(), step.parent);
        let began = step.started.1;
        if let Some(at) = parent {
            model.steps[at].inner.push(*key);
            for note in &record.notes {
                model.up(at, |step| step.notes.insert(note.clone()));
            }
        }
        let parent = parent.map(|at| model.steps[at].number);
        drop(model);
        let wall_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.sink.take(Report::Step(Box::new(Told {
            number,
            parent,
            title,
            verdict: Verdict::Hit,
            notes: record.notes.clone(),
            began,
            wall_us,
            saved_us: record.cost.wall_us.saturating_sub(wall_us),
            cost: Cost::default(),
            placement: Placement::default(),
            held: None,
        })));
        self.history.done(Done {
            step: Went {
                number,
                parent,
                fate: Kept::Served,
                why: String::new(),
                cause: None,
                began_us: began / 1000,
                wall_us,
                status: record.status,
                execution: None,
            },
            start,
            key: *key,
            record: Arc::unwrap_or_clone(record),
        });
    }
}

/// The most memory that one process of a step has needed, by its records.
fn memory(records: &[Arc<Record>]) -> u64 {
    let needed = records.iter().map(|record| record.cost.own_bytes);
    needed.max().unwrap_or(0)
}

fn in_place(output: &Output) -> bool {
    matches!(output.what, What::File { in_place: true, .. })
}

/// How the step that is served once changed an output.
fn how(output: &Output) -> Wrote {
    let mut how = match output.what {
        What::Absent => Wrote::REMOVED,
        What::Attributes(_) => Wrote::ATTRIBUTES,
        What::File { .. } | What::Link(_) | What::Dir(_) | What::Fifo(_) | What::HardLink(_) => {
            Wrote::WHOLE
        }
    };
    let set = match output.stamp {
        Stamp::Exact(_) => true,
        Stamp::Now(_) => matches!(output.what, What::Attributes(_)),
        Stamp::Keep => false,
    };
    if set {
        how |= Wrote::TIMES;
    }
    if in_place(output) {
        how |= Wrote::INTO;
    }
    how
}

/// A command for people: its words, shortened.
fn title(exec: &Exec) -> String {
    let words: Vec<_> = exec
        .argv
        .iter()
        .map(|arg| arg.escape_ascii().to_string())
        .collect();
    let mut title = words.join(" ");
    if title.len() > 300 {
        title.truncate(297);
        title.push_str("...");
    }
    title
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
