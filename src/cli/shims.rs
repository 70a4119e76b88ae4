//! Shims: `.rfs/bin` of a workspace holds a link to this program for each tool. Put first in `PATH` it makes any tool
//! that an untraced shell, an editor or a CI job calls a build of its own, as `rfs build -- TOOL` would be.
//!
//! A shim takes every such directory out of the `PATH` of what it starts, and inside a build `.rfs` cannot be seen: a
//! tool never comes to a shim again. Outside a workspace the tool just runs.

use super::build::Telling;
use super::config::Config;
use super::descriptors::Inherited;
use super::error::CommandError;
use super::signals::Taken;
use super::{behind, console, logging, place, watched, workspace};
use crate::base::policy::Policy;
use crate::disk::{At, Disk, RealDisk};
use rustix::fs::{Access, access};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Below a workspace's root.
const BIN: &str = ".rfs/bin";

/// Make the directory of shims: put first in PATH it has every tool go through the cache
///
/// Makes `.rfs/bin` in the workspace, with a shim for each TOOL, and tells where it is, as in
/// `PATH=$(rfs shims):$PATH`. A tool that is called by that name in a workspace with `.rfs` is served or recorded as
/// by `rfs build -- TOOL`, elsewhere it just runs. Doing it again renews the shims.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of tools [default: all programs of PATH but those that cost nothing, such as cat, are never served, or
    /// change their user]
    tools: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let root = workspace::of(&place::cwd()?)?;
    let config = place::config(&root)?;
    let failed =
        |error: crate::disk::Error| CommandError::new(format_args!("cannot make shims: {error}"));
    if let Some(bad) = args
        .tools
        .iter()
        .find(|tool| tool.as_bytes().contains(&b'/'))
    {
        let what = format!("{} is not the name of a tool", bad.to_string_lossy());
        return Err(CommandError::new(what).hint("name it as in PATH, without a directory"));
    }
    let made = workspace::prepare(&root, &RealDisk);
    made.map_err(failed)?;
    let tools = match args.tools.is_empty() {
        true => all(&variable_path(), &config.policy),
        false => args.tools.iter().cloned().collect(),
    };
    let dir = root.join(BIN);
    fill(&dir, &tools, &RealDisk).map_err(failed)?;
    console::answer(dir.display());
    Ok(0)
}

fn variable_path() -> OsString {
    place::variable("PATH").unwrap_or_default()
}

/// The programs of `path` that are worth a shim.
fn all(path: &OsStr, policy: &Policy) -> BTreeSet<OsString> {
    let mut tools = BTreeSet::new();
    for dir in std::env::split_paths(&without_shims(path)).filter(|dir| dir.is_absolute()) {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_small = policy.fold.iter().any(|known| *known == text);
            if is_small || text == "rfs" || policy.never(&text, &[]) {
                continue;
            }
            let file = entry.path();
            // Privileges that a program gives are not to be had under watch.
            let is_tool = file
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o6000 == 0);
            if is_tool && access(&file, Access::EXEC_OK).is_ok() {
                tools.insert(name);
            }
        }
    }
    tools
}

/// Makes the directory hold shims for just these tools.
fn fill(dir: &Path, tools: &BTreeSet<OsString>, disk: &dyn Disk) -> crate::disk::Result<()> {
    match disk.mkdir(dir, 0o755) {
        Err(error) if error.source.kind() != ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let program = std::env::current_exe().at("readlink", Path::new("/proc/self/exe"))?;
    for entry in dir.read_dir().at("getdents", dir)? {
        let path = entry.at("getdents", dir)?.path();
        let name = path.file_name().unwrap_or_default();
        let is_link = path.read_link().is_ok();
        if is_link && !tools.contains(name) {
            disk.unlink(&path)?;
        }
    }
    for tool in tools {
        let path = dir.join(tool);
        if path.read_link().is_ok_and(|there| there == program) {
            continue;
        }
        // In one go: somebody may call it just now.
        let mut name = OsString::from(".");
        name.push(tool);
        let new = dir.join(name);
        match disk.unlink(&new) {
            Err(error) if error.source.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        disk.symlink(&program, &new)?;
        disk.rename(&new, &path)?;
    }
    Ok(())
}

/// The tool's name where this process was started by way of a shim.
pub(super) fn called() -> Option<OsString> {
    let file = Path::new(OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()));
    let name = file.file_name()?;
    let dir = match file.parent() {
        Some(dir) if dir.is_absolute() => dir.to_owned(),
        dir => std::env::current_dir()
            .ok()?
            .join(dir.unwrap_or(Path::new(""))),
    };
    is_of_shims(&dir).then(|| name.to_owned())
}

fn is_of_shims(dir: &Path) -> bool {
    // Not by `ends_with`, which sees no difference in a dot at the end.
    let dir: PathBuf = dir.components().collect();
    dir.ends_with(BIN)
}

/// `path` without directories of shims, whose workspace ever they are of.
fn without_shims(path: &OsStr) -> OsString {
    let kept: Vec<&[u8]> = path
        .as_bytes()
        .split(|byte| *byte == b':')
        .filter(|dir| !is_of_shims(Path::new(OsStr::from_bytes(dir))))
        .collect();
    OsString::from_vec(kept.join(&b':'))
}

/// Does what the tool is to do. Returns its exit status.
pub(super) fn serve(tool: OsString) -> Result<i32, CommandError> {
    logging::start();
    let inherited = Inherited::list();
    let argv: Vec<OsString> = std::iter::once(tool)
        .chain(std::env::args_os().skip(1))
        .collect();
    match place() {
        Ok(Some((cwd, root, config))) => {
            let taken = Taken::take()?;
            let mut request = watched::plain(argv, cwd, root, config, &taken)?;
            for (name, value) in &mut request.env {
                if name == "PATH" {
                    *value = without_shims(value);
                }
            }
            watched::run(&request, &Telling::NOTHING, taken, inherited, false)
        }
        Ok(None) => Err(plainly(&argv)),
        Err(error) => {
            // The tool is wanted, not rfs.
            console::warn(
                format_args!(
                    "{error}\nrfs: the command runs plainly, nothing is recorded or served"
                ),
                None,
            );
            Err(plainly(&argv))
        }
    }
}

/// Working directory, workspace and configuration; none outside of a workspace.
fn place() -> Result<Option<(PathBuf, PathBuf, Config)>, CommandError> {
    let is_workspace = |cwd: &Path| {
        let root = workspace::find(cwd);
        root.join(workspace::STATE).is_dir().then_some(root)
    };
    if is_workspace(&place::cwd()?).is_none() {
        return Ok(None);
    }
    behind::step()?;
    let cwd = place::cwd()?;
    let Some(root) = is_workspace(&cwd) else {
        return Ok(None);
    };
    let config = place::config(&root)?;
    Ok(Some((cwd, root, config)))
}

fn plainly(argv: &[OsString]) -> CommandError {
    let env: Vec<_> = std::env::vars_os().collect();
    watched::execute(argv, &env, &without_shims(&variable_path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_shims_are_no_part_of_a_path() {
        let path = "/w/.rfs/bin:/usr/bin::.rfs/bin:/v/.rfs/bin/.:/x/.rfs/binary:/bin";
        assert_eq!(
            without_shims(path.as_ref()),
            "/usr/bin::/x/.rfs/binary:/bin"
        );
        assert_eq!(without_shims("".as_ref()), "");
    }

    #[test]
    fn tools_that_are_small_or_change_their_user_have_no_shim() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [
            ("cc", 0o755),
            ("cat", 0o755),
            ("sudo", 0o755),
            ("su2", 0o4755),
            ("data", 0o644),
        ] {
            let path = dir.path().join(name);
            std::fs::File::create(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let tools = all(dir.path().as_os_str(), &Policy::default());
        assert_eq!(tools.into_iter().collect::<Vec<_>>(), ["cc"]);
    }

    #[test]
    fn shims_are_made_and_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        let names = |tools: &[&str]| tools.iter().map(OsString::from).collect::<BTreeSet<_>>();
        fill(&bin, &names(&["cc", "make"]), &RealDisk).unwrap();
        std::fs::remove_file(bin.join("make")).unwrap();
        std::os::unix::fs::symlink("/old/rfs", bin.join("make")).unwrap();
        fill(&bin, &names(&["make"]), &RealDisk).unwrap();
        let there: Vec<_> = bin
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(there, ["make"]);
        assert_eq!(
            bin.join("make").read_link().unwrap(),
            std::env::current_exe().unwrap()
        );
    }
}
