//! Configuration files: `rfs.toml` in the workspace, the user's `rfs/config.toml`, `/etc/rfs/config.toml`.
//!
//! The nearer file wins; the lists of `[tools]` add up instead, and an entry `-name` takes one away.
//! What a file says wrongly is an error with its line, never ignored. Reads nothing but what it is given.

use super::error::CommandError;
use super::progress::When;
use crate::base::policy::Policy;
use crate::report::{duration, size};
use crate::runner::Tracer;
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where the machine's own configuration lies.
pub(super) const SYSTEM: &str = "/etc/rfs/config.toml";
/// The name of a workspace's configuration file.
pub(super) const WORKSPACE: &str = "rfs.toml";

/// What all files together say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Config {
    /// The tables of `[tools]`.
    pub(super) policy: Policy,
    /// `build.tracer`.
    pub(super) tracer: Option<Tracer>,
    /// `build.preload`.
    pub(super) preload: Option<bool>,
    /// `build.progress`.
    pub(super) progress: Option<When>,
    /// `build.strict-clock`.
    pub(super) strict_clock: Option<bool>,
    /// `cache.dir`, absolute where the file's path is.
    pub(super) cache_dir: Option<PathBuf>,
    /// `cache.size`: bytes.
    pub(super) cache_size: Option<u64>,
    /// `mount.allow-other`.
    pub(super) mount_others: Option<bool>,
    /// `mount.passthrough`.
    pub(super) mount_passthrough: Option<bool>,
    /// `mount.idle`.
    pub(super) mount_idle: Option<Duration>,
}

/// Whose build it is, for the paths in the files.
#[derive(Debug, Clone, Default)]
pub(super) struct User {
    /// What a leading `~/` stands for.
    pub(super) home: Option<PathBuf>,
    /// The number that `%U` stands for.
    pub(super) id: u32,
}

const TABLES: [&str; 4] = ["build", "cache", "mount", "tools"];

impl Config {
    /// Reads those of the files that exist, the farthest first.
    pub(super) fn read(files: &[PathBuf], user: &User) -> Result<Self, CommandError> {
        let mut config = Self::default();
        for path in files {
            match std::fs::read_to_string(path) {
                Ok(text) => config.add(path, &text, user)?,
                Err(error) if is_absence(&error) => {}
                Err(error) => {
                    return Err(CommandError::new(format_args!(
                        "cannot read the configuration: {}: {error}",
                        path.display()
                    ))
                    .hint("make it readable UTF-8 text, or remove it"));
                }
            }
        }
        Ok(config)
    }

    /// Adds what the text of a nearer file says.
    fn add(&mut self, path: &Path, text: &str, user: &User) -> Result<(), CommandError> {
        let file = Source { path, text };
        let tables = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            file.error(at, error.message())
                .hint("it is TOML: `[table]`, then lines of `key = value`: doc/configuration.md")
        })?;
        for (name, table) in tables.get_ref() {
            let known: Vec<&str> = match name.get_ref().as_ref() {
                "build" => vec!["preload", "progress", "strict-clock", "tracer"],
                "cache" => vec!["dir", "size"],
                "mount" => vec!["allow-other", "idle", "passthrough"],
                "tools" => lists(&mut self.policy)
                    .iter()
                    .map(|(key, _)| *key)
                    .collect(),
                other => {
                    let at = name.span().start;
                    return Err(file.unknown(at, format_args!("table [{other}]"), other, &TABLES));
                }
            };
            let DeValue::Table(entries) = table.get_ref() else {
                return Err(file.wrong(name, "a table"));
            };
            for (key, value) in entries {
                if !known.contains(&key.get_ref().as_ref()) {
                    let what = format!("key `{}` in [{}]", key.get_ref(), name.get_ref());
                    return Err(file.unknown(key.span().start, what, key.get_ref(), &known));
                }
                self.set(&file, name.get_ref(), key, value, user)?;
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        file: &Source<'_>,
        table: &str,
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
        user: &User,
    ) -> Result<(), CommandError> {
        let value = value.get_ref();
        match (table, key.get_ref().as_ref()) {
            ("build", "preload" | "strict-clock") => {
                let on = value.as_bool();
                let on = on.ok_or_else(|| file.wrong(key, "true or false"))?;
                if key.get_ref() == "preload" {
                    self.preload = Some(on);
                } else {
                    self.strict_clock = Some(on);
                }
            }
            ("build", "tracer") => {
                self.tracer = Some(match value.as_str() {
                    Some("auto") => Tracer::Auto,
                    Some("notify") => Tracer::Notify,
                    Some("ptrace") => Tracer::Ptrace,
                    Some(_) | None => {
                        return Err(file.wrong(key, "\"auto\", \"notify\" or \"ptrace\""));
                    }
                });
            }
            ("build", "progress") => {
                let when = value
                    .as_str()
                    .and_then(|text| When::from_str(text, false).ok());
                let wrong = || file.wrong(key, "\"auto\", \"line\" or \"never\"");
                self.progress = Some(when.ok_or_else(wrong)?);
            }
            ("cache", "dir") => {
                let text = value.as_str().filter(|text| !text.is_empty());
                let text = text.ok_or_else(|| file.wrong(key, "the path of a directory"))?;
                let text = text.replace("%U", &user.id.to_string());
                let near = file.path.parent().unwrap_or(Path::new("/"));
                self.cache_dir = Some(match (text.strip_prefix("~/"), &user.home) {
                    (Some(rest), Some(home)) => home.join(rest),
                    (Some(_), None) | (None, _) => near.join(&text),
                });
            }
            ("cache", "size") => {
                let size = value.as_str().and_then(|text| size::parse(text).ok());
                let wrong = || file.wrong(key, "a size such as \"500M\" or \"20G\"");
                self.cache_size = Some(size.ok_or_else(wrong)?);
            }
            ("mount", "idle") => {
                let time = value.as_str().and_then(|text| duration::parse(text).ok());
                let wrong = || file.wrong(key, "a time such as \"90s\", \"10m\" or \"2h\"");
                self.mount_idle = Some(time.ok_or_else(wrong)?);
            }
            ("mount", name) => {
                let on = value.as_bool();
                let on = on.ok_or_else(|| file.wrong(key, "true or false"))?;
                if name == "allow-other" {
                    self.mount_others = Some(on);
                } else {
                    self.mount_passthrough = Some(on);
                }
            }
            (_, key_name) => {
                let entries = strings(value).ok_or_else(|| file.wrong(key, "a list of strings"))?;
                for (list_name, list) in lists(&mut self.policy) {
                    if list_name == key_name {
                        amend(list, &entries);
                    }
                }
            }
        }
        Ok(())
    }
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

/// The lists of the policy by their keys.
fn lists(policy: &mut Policy) -> [(&'static str, &mut Vec<String>); 20] {
    let Policy {
        fold,
        noted,
        parts,
        driven,
        drivers,
        replaces,
        times_ignore,
        times_order,
        times_dirs,
        times_files,
        times_args,
        times_order_args,
        env_ignore,
        jobs_ignore,
        asks_terminal,
        seeks_children,
        chance,
        pin,
        near,
        never,
    } = policy;
    [
        ("fold", fold),
        ("noted", noted),
        ("parts", parts),
        ("driven", driven),
        ("drivers", drivers),
        ("replaces", replaces),
        ("times-ignore", times_ignore),
        ("times-order", times_order),
        ("times-dirs", times_dirs),
        ("times-files", times_files),
        ("times-args", times_args),
        ("times-order-args", times_order_args),
        ("env-ignore", env_ignore),
        ("jobs-ignore", jobs_ignore),
        ("asks-terminal", asks_terminal),
        ("seeks-children", seeks_children),
        ("chance", chance),
        ("pin", pin),
        ("near", near),
        ("never", never),
    ]
}

fn amend(list: &mut Vec<String>, entries: &[&str]) {
    for entry in entries {
        let gone = entry.strip_prefix('-').unwrap_or(entry);
        list.retain(|known| known != gone);
        if gone == *entry {
            list.push((*entry).to_owned());
        }
    }
}

fn strings<'a>(value: &'a DeValue<'_>) -> Option<Vec<&'a str>> {
    let array = value.as_array()?;
    array.iter().map(|item| item.get_ref().as_str()).collect()
}

fn is_absence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// The text of a file, for messages.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, at: usize, message: impl std::fmt::Display) -> CommandError {
        let line = 1 + self.text.as_bytes()[..at.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        CommandError::new(format_args!("{}:{line}: {message}", self.path.display()))
    }

    fn wrong(&self, key: &Key<'_>, wanted: &str) -> CommandError {
        let message = format!("`{}` must be {wanted}", key.get_ref());
        self.error(key.span().start, message)
            .hint("mend this line, or remove it")
    }

    fn unknown(
        &self,
        at: usize,
        what: impl std::fmt::Display,
        name: &str,
        known: &[&str],
    ) -> CommandError {
        let error = self.error(at, format_args!("unknown {what}"));
        match nearest(name, known) {
            Some(near) => error.hint(format_args!("did you mean `{near}`?")),
            None => error.hint(format_args!("known here: {}", known.join(", "))),
        }
    }
}

/// The known name that was probably meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.replace('_', "-"), other);
    let near = known.iter().copied().min_by_key(|other| distance(other))?;
    (distance(near) * 3 <= name.len().max(3)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(texts: &[&str]) -> Result<Config, String> {
        let mut config = Config::default();
        for text in texts {
            let user = User {
                home: Some("/home/u".into()),
                id: 1007,
            };
            config
                .add(Path::new("/w/rfs.toml"), text, &user)
                .map_err(|error| error.to_string())?;
        }
        Ok(config)
    }

    #[test]
    fn lists_add_up_and_a_dash_takes_away() {
        let config = config(&[
            "[tools]\nfold = ['mytool', '-cat']\n",
            "[tools]\nfold = ['cat', '-mytool', 'other']\nenv-ignore = ['BUILD_ID']\n",
        ])
        .unwrap();
        let fold = &config.policy.fold;
        assert!(fold.contains(&"cat".into()) && fold.contains(&"other".into()));
        assert!(!fold.contains(&"mytool".into()));
        assert!(fold.contains(&"sed".into()), "the defaults stay");
        assert!(!config.policy.env_counts(b"BUILD_ID"));
    }

    #[test]
    fn the_nearer_file_wins() {
        let config = config(&[
            "[build]\ntracer = 'ptrace'\nstrict-clock = true\n[cache]\ndir = '/far'\n",
            "[build]\ntracer = 'notify'\n[cache]\ndir = 'near'\nsize = '3K'\n",
        ])
        .unwrap();
        assert_eq!(config.tracer, Some(Tracer::Notify));
        assert_eq!(config.strict_clock, Some(true));
        assert_eq!(config.cache_dir, Some("/w/near".into()));
        assert_eq!(config.cache_size, Some(3072));
    }

    #[test]
    fn a_mount_has_its_options() {
        let config = config(&[
            "[mount]\nidle = '2h'\nallow-other = true\n",
            "[mount]\nidle = '10m'\npassthrough = false\n",
        ])
        .unwrap();
        assert_eq!(config.mount_idle, Some(Duration::from_secs(600)));
        assert_eq!(config.mount_others, Some(true));
        assert_eq!(config.mount_passthrough, Some(false));
        for bad in ["idle = 5", "idle = '1d'", "allow-other = 'yes'"] {
            assert!(
                self::config(&[&format!("[mount]\n{bad}\n")]).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_user_has_his_signs() {
        for (dir, want) in [
            ("~/c", "/home/u/c"),
            ("/var/cache/rfs/%U", "/var/cache/rfs/1007"),
        ] {
            let config = config(&[&format!("[cache]\ndir = '{dir}'\n")]).unwrap();
            assert_eq!(config.cache_dir, Some(want.into()));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, want) in [
            (
                "[tools]\n\nfodl = []\n",
                "rfs: error: /w/rfs.toml:3: unknown key `fodl` in [tools]\n\
                 rfs: hint: did you mean `fold`?",
            ),
            (
                "[tools]\ntimes_ignore = []\n",
                "rfs: error: /w/rfs.toml:2: unknown key `times_ignore` in [tools]\n\
                 rfs: hint: did you mean `times-ignore`?",
            ),
            (
                "[bulid]\n",
                "rfs: error: /w/rfs.toml:1: unknown table [bulid]\n\
                 rfs: hint: did you mean `build`?",
            ),
            (
                "xyz = 1\n",
                "rfs: error: /w/rfs.toml:1: unknown table [xyz]\n\
                 rfs: hint: known here: build, cache, mount, tools",
            ),
            (
                "[build]\ntracer = 'gdb'\n",
                "rfs: error: /w/rfs.toml:2: `tracer` must be \"auto\", \"notify\" or \"ptrace\"\n\
                 rfs: hint: mend this line, or remove it",
            ),
            (
                "[cache]\nsize = 20\n",
                "rfs: error: /w/rfs.toml:2: `size` must be a size such as \"500M\" or \"20G\"\n\
                 rfs: hint: mend this line, or remove it",
            ),
            (
                "[tools]\nfold = 'cat'\n",
                "rfs: error: /w/rfs.toml:2: `fold` must be a list of strings\n\
                 rfs: hint: mend this line, or remove it",
            ),
            (
                "build = 3\n",
                "rfs: error: /w/rfs.toml:1: `build` must be a table\n\
                 rfs: hint: mend this line, or remove it",
            ),
        ] {
            assert_eq!(config(&[text]).unwrap_err(), want);
        }
        let broken = config(&["[tools]\nfold = [\n"]).unwrap_err();
        assert!(broken.starts_with("rfs: error: /w/rfs.toml:"), "{broken}");
    }

    #[test]
    fn absent_files_say_nothing() {
        let files = [PathBuf::from("/no/such/file"), PathBuf::from("/dev/null/x")];
        assert_eq!(
            Config::read(&files, &User::default()).unwrap(),
            Config::default()
        );
    }
}
