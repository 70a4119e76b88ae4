//! What is known of the program that a process runs.

use crate::base::Access;
use crate::base::policy::{Policy, Times, plain};
use rfs_tracer::event::Exec;
use std::path::Path;

/// A program, as far as its accesses must be read differently from another's.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    /// Base name of the program file, or of the script.
    pub name: String,
    /// Plain name of what runs: the program, or the interpreter of the script.
    pub driver: String,
    /// What it does with time stamps.
    pub times: Times,
    /// Whether it compares the time stamps of directories as well.
    pub dirs: bool,
    /// Whether it may pass on the time stamps of directories, as an archiver does.
    pub stores: bool,
    /// Whether it takes the time stamps of files that it has opened.
    pub times_opened: bool,
    /// Whether it looks at old outputs only to replace them.
    pub replaces: bool,
    /// Whether it makes but a few calls.
    pub brief: bool,
    /// Whether it is a shell.
    pub shell: bool,
}

impl Tool {
    /// The tool that is about to start.
    pub(super) fn of(exec: &Exec, policy: &Policy) -> Self {
        // `busybox cp` is a `cp`.
        let argv = match exec.argv.as_slice() {
            [first, applet @ ..] if !applet.is_empty() && first.ends_with(b"busybox") => applet,
            argv => argv,
        };
        let name = base(argv.first().map_or(&b""[..], Vec::as_slice))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| base_of(&exec.program.path));
        let script = exec.interpreters.first().map(|walk| base_of(&walk.path));
        let runner = script.filter(|name| !is_loader(name));
        let driver = runner.clone().unwrap_or_else(|| plain(&name).to_owned());
        let times = policy.times(&driver, argv);
        let shell = matches!(
            driver.as_str(),
            "sh" | "dash" | "bash" | "ksh" | "zsh" | "busybox"
        );
        let dirs = match times {
            Times::Order if shell => compares(exec, runner.is_some()),
            Times::Order => true,
            Times::Ignore | Times::Exact => false,
        };
        // One of `times-ignore` is exact only by an option that says so.
        let mut takers = policy.times_files.iter().chain(&policy.times_ignore);
        let times_opened = times == Times::Exact && takers.any(|known| *known == driver);
        let replaces = policy.replaces.iter().any(|known| known == plain(&name));
        Self {
            driver,
            times,
            dirs,
            times_opened,
            brief: policy.fold.contains(&name) && !policy.noted.contains(&name),
            stores: policy.times_dirs.contains(&name),
            name,
            replaces,
            shell,
        }
    }

    /// What it may learn of a regular file that it has opened: what fstat(2) tells is not seen when it
    /// is asked.
    pub(super) fn opened(&self) -> Access {
        let times = match self.times_opened {
            true => Access::MTIME,
            false => Access::NONE,
        };
        Access::REG | Access::MODE | times
    }

    /// Whether the program's accesses belong to the step around it: it costs less to run than to look up,
    /// or `starter`, the program that starts it, gives it temporary names.
    pub(super) fn folds(&self, starter: Option<&Self>, policy: &Policy) -> bool {
        let name = plain(&self.name);
        let is = |list: &[String], name: &str| list.iter().any(|known| known == name);
        is(&policy.fold, &self.name)
            || is(&policy.parts, name)
            || (is(&policy.driven, name)
                && starter.is_some_and(|starter| is(&policy.drivers, plain(&starter.name))))
    }
}

/// Whether a shell's text holds an operator that compares time stamps.
fn compares(exec: &Exec, script: bool) -> bool {
    let has = |text: &[u8]| {
        [&b" -nt "[..], b" -ot ", b" -N "]
            .iter()
            .any(|op| text.windows(op.len()).any(|at| at == *op))
    };
    if exec.argv.iter().any(|arg| has(arg)) {
        return true;
    }
    let file = if script {
        Some(exec.program.path.clone())
    } else {
        let operand = exec.argv.iter().skip(1).find(|arg| !arg.starts_with(b"-"));
        operand.map(|arg| {
            use std::os::unix::ffi::OsStrExt;
            exec.cwd.join(std::ffi::OsStr::from_bytes(arg))
        })
    };
    file.and_then(|path| std::fs::read(path).ok())
        .is_some_and(|text| has(&text))
}

fn is_loader(name: &str) -> bool {
    name.starts_with("ld-") || name.starts_with("ld.so") || name.starts_with("ld64.so")
}

fn base(arg: &[u8]) -> Option<String> {
    let arg = arg.rsplit(|b| *b == b'/').next()?;
    let arg = arg.strip_prefix(b"-").unwrap_or(arg);
    Some(String::from_utf8_lossy(arg).into_owned())
}

fn base_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
