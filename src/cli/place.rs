//! Where things are: what environment and system say of directories.

use super::config::{self, Config, User};
use super::error::CommandError;
use crate::runner::Preload;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A variable of our environment. An empty one counts as unset.
#[expect(
    clippy::disallowed_methods,
    reason = "cli is who reads the environment"
)]
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The variables of our environment that are ours: `RFS_NAME=VALUE`, in order.
pub(super) fn ours() -> Vec<String> {
    let mut all: Vec<_> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .filter(|line| line.starts_with("RFS_"))
        .collect();
    all.sort();
    all
}

/// The working directory, without symbolic links.
pub(super) fn cwd() -> Result<PathBuf, CommandError> {
    std::env::current_dir().map_err(|error| {
        CommandError::new(format_args!(
            "cannot tell the working directory: getcwd: {error}"
        ))
        .hint("change to a directory that exists and can be reached")
    })
}

/// The user's home directory: `$HOME`, else what the system's user table says.
pub(super) fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from).or_else(|| {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
        Some(user.dir)
    })
}

/// `$NAME` where it is absolute, as the XDG base directory specification wants it, else `~/DIR`.
fn base(variable_name: &str, dir: &str) -> Option<PathBuf> {
    variable(variable_name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(home()?.join(dir)))
}

/// Where the user's configuration lies.
pub(super) fn user_config() -> Option<PathBuf> {
    Some(base("XDG_CONFIG_HOME", ".config")?.join("rfs"))
}

/// The configuration files for a workspace: the machine's, the user's, its own.
pub(super) fn config_files(workspace: &Path) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(config::SYSTEM)];
    files.extend(base("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("rfs/config.toml")));
    files.push(workspace.join(config::WORKSPACE));
    files
}

/// What the configuration files say for a workspace.
pub(super) fn config(workspace: &Path) -> Result<Config, CommandError> {
    let user = User {
        home: home(),
        id: nix::unistd::geteuid().as_raw(),
    };
    Config::read(&config_files(workspace), &user)
}

/// The cache's directory, absolute: the option, `$RFS_CACHE_DIR`, the configuration, the user's cache.
pub(super) fn cache(
    option: Option<&Path>,
    configured: Option<&Path>,
    cwd: &Path,
) -> Result<PathBuf, CommandError> {
    option
        .map(Path::to_owned)
        .or_else(|| variable("RFS_CACHE_DIR").map(PathBuf::from))
        .or_else(|| configured.map(Path::to_owned))
        .or_else(|| Some(base("XDG_CACHE_HOME", ".cache")?.join("rfs")))
        .map(|path| cwd.join(path))
        .ok_or_else(|| {
            CommandError::new(
                "no place for the cache: neither HOME nor the user table names a home",
            )
            .hint("name one with --cache-dir or RFS_CACHE_DIR")
        })
}

/// Which programs get the preload library: as `RFS_PRELOAD` says, else as configured, else all.
pub(super) fn preload(configured: Option<bool>) -> Preload {
    match (variable("RFS_PRELOAD"), configured) {
        (Some(value), _) if value == "0" => Preload::Off,
        (Some(value), _) if value == "half" => Preload::Half,
        (None, Some(false)) => Preload::Off,
        (Some(_) | None, _) => Preload::On,
    }
}
