//! `rfs attest` and `rfs sbom`: who made a file from what, signed.

use super::ask::Asked;
use super::error::CommandError;
use super::{console, place, summary_file};
use crate::attest::envelope::{self, Private, Public};
use crate::attest::sha256::{self, Sha256};
use crate::attest::{Input, Made, Package, spdx, statement};
use crate::base::{Digest, Hasher};
use crate::disk::{Disk, RealDisk};
use crate::query::packages::Packages;
use crate::query::{Subject, origin};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Sign how a file was made: SLSA provenance from what the build was seen to read
///
/// Writes FILE.intoto.json: an in-toto statement (v1) with SLSA provenance (v1) in a DSSE envelope, signed with an
/// ed25519 key. It names the command, the steps that led to FILE, every file that they read with its digests
/// (BLAKE3 as recorded, SHA-256 where it is still there), and the Debian packages that own those outside of the
/// workspace. `rfs verify` checks it. A key is made once with --new-key.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file that the build has made
    #[arg(required_unless_present = "new_key", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Make a key, private in ~/.config/rfs/attest.key (or KEY), public beside it in .pub
    #[arg(long)]
    new_key: bool,
    /// The private key [default: ~/.config/rfs/attest.key]
    #[arg(long, value_name = "KEY")]
    key: Option<PathBuf>,
    /// Where to write it [default: FILE.intoto.json]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Who builds: a URI that those who verify know [default: urn:rfs:host:NAME]
    #[arg(long, value_name = "URI")]
    builder: Option<String>,
}

/// Tell what a file was made from: an SPDX bill of materials
///
/// An SPDX 2.3 document in JSON on standard output: the sources, with their digests, and the Debian packages whose
/// files were read. With --sign: in an in-toto statement and a DSSE envelope, as `rfs attest` makes them.
#[derive(Debug, clap::Args)]
pub(super) struct BillArgs {
    /// A file that the build has made
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign it
    #[arg(long)]
    sign: bool,
    /// The private key [default: ~/.config/rfs/attest.key]
    #[arg(long, value_name = "KEY", requires = "sign")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let key_file = key_file(args.key.as_deref())?;
    if args.new_key {
        new_key(&key_file)?;
    }
    let Some(file) = &args.file else {
        return Ok(0);
    };
    let key = private(&key_file)?;
    let made = made(file)?;
    let builder = args.builder.clone();
    let builder = builder.unwrap_or_else(|| format!("urn:rfs:host:{}", made.host));
    let sealed = envelope::seal(&statement::provenance(&made, &builder), &key);
    let output = args.output.clone().unwrap_or_else(|| beside(file));
    write(&output, &sealed)?;
    console::tell(format_args!(
        "{}: made from {} files and {} packages; signed by {}",
        output.display(),
        made.inputs.len(),
        made.packages.len(),
        key.public().id(),
    ));
    Ok(0)
}

pub(super) fn bill(args: &BillArgs) -> Result<i32, CommandError> {
    let key = match args.sign {
        true => Some(private(&key_file(args.key.as_deref())?)?),
        false => None,
    };
    let made = made(&args.file)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let document = spdx::document(&made, now);
    let text = match key {
        Some(key) => envelope::seal(&statement::bill(&made, document), &key),
        None => pretty(&document) + "\n",
    };
    match &args.output {
        Some(output) => write(output, &text)?,
        None => console::answer(text.trim_end()),
    }
    Ok(0)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("BUG: plain values make JSON")
}

/// Where the statement about a file is.
pub(super) fn beside(file: &Path) -> PathBuf {
    let mut name: OsString = file.as_os_str().to_owned();
    name.push(".intoto.json");
    name.into()
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    summary_file::replace(path, text, &RealDisk).map_err(|error| {
        CommandError::new(format_args!(
            "cannot write {}: {}",
            path.display(),
            error.source
        ))
        .hint("name another file with --output")
    })
}

/// What is known of the making of a file, which must be as it was made.
fn made(file: &Path) -> Result<Made, CommandError> {
    let asked = Asked::here()?;
    let absolute = asked.cwd.join(file);
    let Subject::Path(name) = Subject::of_path(&absolute, &asked.root) else {
        return Err(CommandError::new("a file is wanted, not a step"));
    };
    let unreadable = |error: &io::Error| {
        CommandError::new(format_args!("cannot read {}: {error}", file.display()))
            .hint("build it first: a file is attested as it lies there")
    };
    let (now, sha256) = digests(&absolute).map_err(|error| unreadable(&error))?;
    let mut made = origin::of(&asked.state, &name).map_err(super::ask::explained)?;
    if made.digests.blake3 != Some(now) {
        return Err(CommandError::new(format_args!(
            "{} is not as the build left it: it was changed since",
            file.display()
        ))
        .hint("build it again, or undo what was done to it"));
    }
    made.digests.sha256 = Some(sha256);
    for input in made.inputs.iter_mut().chain(&mut made.between) {
        let path = asked.root.join(&input.path);
        input.digests.sha256 = match digests(&path) {
            Ok((blake3, sha256)) if Some(blake3) == input.digests.blake3 => Some(sha256),
            Ok(_) | Err(_) => None,
        };
    }
    name_packages(&mut made)?;
    Ok(made)
}

fn name_packages(made: &mut Made) -> Result<(), CommandError> {
    let Some(system) = Packages::here() else {
        return Ok(());
    };
    let outside = |input: &&Input| input.path.starts_with('/');
    let paths = made.inputs.iter().filter(outside);
    let paths = paths.map(|input| input.path.as_bytes());
    let owners = system.owners(paths).map_err(|error| {
        CommandError::new(format_args!("what dpkg has installed: {error}"))
            .hint("make /var/lib/dpkg readable")
    })?;
    let package = |owner: &crate::query::packages::Package| Package {
        name: owner.name.clone(),
        version: owner.version.clone(),
        architecture: owner.architecture.clone(),
    };
    let mut places: BTreeMap<Package, usize> =
        owners.values().map(|owner| (package(owner), 0)).collect();
    for (at, place) in places.values_mut().enumerate() {
        *place = at;
    }
    for input in &mut made.inputs {
        let owner = owners.get(input.path.as_bytes());
        input.package = owner.and_then(|owner| places.get(&package(owner)).copied());
    }
    made.packages = places.into_keys().collect();
    Ok(())
}

/// What a file is known by: of a symbolic link its text counts.
pub(super) fn digests(path: &Path) -> io::Result<(Digest, Sha256)> {
    if path.symlink_metadata()?.is_symlink() {
        let text = std::fs::read_link(path)?;
        let text = text.as_os_str().as_bytes();
        return Ok((Digest::of(text), Sha256::of(text)));
    }
    let mut file = File::open(path)?;
    let (mut ours, mut theirs) = (Hasher::default(), sha256::Hasher::default());
    let mut piece = vec![0; 128 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((ours.finish(), theirs.finish())),
            n => {
                ours.update(&piece[..n]);
                theirs.update(&piece[..n]);
            }
        }
    }
}

const MAKE_ONE: &str = "`rfs attest --new-key` makes one";

/// Where the private key is.
fn key_file(option: Option<&Path>) -> Result<PathBuf, CommandError> {
    let default = || Some(place::user_config()?.join("attest.key"));
    let file = option.map(Path::to_owned).or_else(default);
    file.ok_or_else(|| {
        CommandError::new("no place for keys: neither HOME nor the user table names a home")
            .hint("name one with --key")
    })
}

/// Where the public key is.
pub(super) fn public_file(option: Option<&Path>) -> Result<PathBuf, CommandError> {
    match option {
        Some(file) => Ok(file.to_owned()),
        None => Ok(key_file(None)?.with_extension("pub")),
    }
}

fn private(path: &Path) -> Result<Private, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot read the key {}: {error}", path.display());
        CommandError::new(what).hint(MAKE_ONE)
    })?;
    Private::from_pem(&text).map_err(|error| {
        let what = format!("{}: {error}", path.display());
        CommandError::new(what).hint("it must be an ed25519 key as PKCS #8 in PEM")
    })
}

/// The key that verifies.
pub(super) fn public(path: &Path) -> Result<Public, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot read the key {}: {error}", path.display());
        CommandError::new(what).hint("name the public key of who signed with --key")
    })?;
    Public::from_pem(&text).map_err(|error| {
        let what = format!("{}: {error}", path.display());
        CommandError::new(what).hint("it must be the public half (.pub) of an ed25519 key, in PEM")
    })
}

/// Makes a key where there is none.
fn new_key(path: &Path) -> Result<(), CommandError> {
    let failed = |why: String| {
        CommandError::new(format_args!("cannot make a key: {why}"))
            .hint("name another file with --key; a key that is there is never written over")
    };
    let mut secret = [0; 32];
    let random = File::open("/dev/urandom").and_then(|mut from| from.read_exact(&mut secret));
    random.map_err(|error| failed(format!("/dev/urandom: {error}")))?;
    let key = Private::new(&secret);
    let dir = path.parent().filter(|dir| *dir != Path::new(""));
    if let Some(dir) = dir {
        RealDisk
            .mkdir_all(dir, 0o777)
            .map_err(|error| failed(error.to_string()))?;
    }
    let public = path.with_extension("pub");
    for (path, mode, text) in [
        (path, 0o600, key.pem()),
        (&public, 0o644, key.public().pem()),
    ] {
        let made = RealDisk
            .create(path, mode)
            .and_then(|file| RealDisk.write_at(&file, path, text.as_bytes(), 0));
        made.map_err(|error| failed(error.to_string()))?;
    }
    console::tell(format_args!(
        "the key {}: {} signs, {} verifies",
        key.public().id(),
        path.display(),
        public.display()
    ));
    Ok(())
}
