//! `rfs verify`: whether a file is what was signed, and what has changed of what it was made from.

use super::attest;
use super::console;
use super::error::CommandError;
use super::{place, workspace};
use crate::attest::statement;
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// It is not what was signed.
const NOT_VERIFIED: i32 = 1;

/// Check a file against its signed statement, and its inputs against what they were
///
/// Checks the signature of FILE.intoto.json, which `rfs attest` has made, then FILE's SHA-256, and tells which
/// inputs that the statement names have changed or vanished since. Exit status: 0 when signature and file hold; 1
/// when not, with --strict also when an input has changed; 125 when it could not be checked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Its statement [default: FILE.intoto.json]
    #[arg(long, value_name = "FILE")]
    attestation: Option<PathBuf>,
    /// The public key of who signed [default: ~/.config/rfs/attest.pub]
    #[arg(long, value_name = "KEY")]
    key: Option<PathBuf>,
    /// Fail also when an input has changed
    #[arg(long)]
    strict: bool,
    /// JSON, schema `rfs.verify/1`
    #[arg(long)]
    json: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Verified {
    schema: &'static str,
    /// The file.
    file: String,
    /// Whether signature and file hold.
    verified: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The key that signed.
    key: String,
    /// What is stated: the type of the predicate.
    statement: Option<String>,
    /// Inputs that are as they were.
    unchanged: usize,
    /// Inputs with another content now.
    changed: Vec<String>,
    /// Inputs that are not there, or cannot be read.
    missing: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let key = attest::public(&attest::public_file(args.key.as_deref())?)?;
    let path = args.attestation.clone();
    let path = path.unwrap_or_else(|| attest::beside(&args.file));
    let sealed = std::fs::read(&path).map_err(|error| {
        CommandError::new(format_args!("cannot read {}: {error}", path.display()))
            .hint("`rfs attest FILE` makes it; --attestation names another one")
    })?;
    let mut answer = Verified {
        schema: "rfs.verify/1",
        file: args.file.display().to_string(),
        verified: false,
        why: None,
        key: key.id(),
        statement: None,
        unchanged: 0,
        changed: Vec::new(),
        missing: Vec::new(),
    };
    let opened = crate::attest::envelope::open(&String::from_utf8_lossy(&sealed), &key);
    let claim = opened
        .map_err(|error| error.to_string())
        .and_then(|payload| statement::read(&payload));
    match claim {
        Ok(claim) => {
            answer.statement = Some(claim.kind.clone());
            answer.why = wrong(&args.file, &claim)?;
            answer.verified = answer.why.is_none();
            if answer.verified {
                answer.look(&claim, &workspace::find(&place::cwd()?));
            }
        }
        Err(why) => answer.why = Some(format!("{}: {why}", path.display())),
    }
    let changed = answer.changed.len() + answer.missing.len();
    let holds = answer.verified && !(args.strict && changed > 0);
    if args.json {
        let json = serde_json::to_string_pretty(&answer);
        console::answer(json.expect("BUG: plain values make JSON"));
    } else {
        console::answer(answer);
    }
    Ok(if holds { 0 } else { NOT_VERIFIED })
}

/// Why a file is not the one that is meant.
fn wrong(file: &Path, claim: &statement::Claim) -> Result<Option<String>, CommandError> {
    let name = Path::new(&claim.name).file_name();
    if name != file.file_name() {
        return Ok(Some(format!("the statement is about {}", claim.name)));
    }
    let (_, sha256) = attest::digests(file).map_err(|error| {
        CommandError::new(format_args!("cannot read {}: {error}", file.display()))
            .hint("name the file that is to be checked")
    })?;
    let found = sha256.to_string();
    Ok((found != claim.sha256).then(|| {
        format!(
            "{} is another file: its SHA-256 is {found}, not {}",
            file.display(),
            claim.sha256
        )
    }))
}

impl Verified {
    /// Looks at what it was made from.
    fn look(&mut self, claim: &statement::Claim, root: &Path) {
        for (path, wanted) in &claim.inputs {
            let told = String::from_utf8_lossy(path).into_owned();
            match attest::digests(&root.join(OsStr::from_bytes(path))) {
                Ok((digest, _)) if digest.hex() == *wanted => self.unchanged += 1,
                Ok(_) => self.changed.push(told),
                Err(_unreadable) => self.missing.push(told),
            }
        }
    }
}

impl Display for Verified {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.why {
            return write!(f, "{}: NOT verified: {why}", self.file);
        }
        let kind = self.statement.as_deref().unwrap_or_default();
        write!(f, "{}: as signed by {} ({kind})", self.file, self.key)?;
        if self.unchanged + self.changed.len() + self.missing.len() > 0 {
            write!(f, "\n{} inputs are as they were", self.unchanged)?;
        }
        for path in &self.changed {
            write!(f, "\nchanged since: {path}")?;
        }
        for path in &self.missing {
            write!(f, "\nnot there any more: {path}")?;
        }
        Ok(())
    }
}
