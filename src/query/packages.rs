//! Which Debian package owns a file of the system, and in which version: read from dpkg's own files, when it is
//! asked and as far as it is asked. Knows no build.

use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What dpkg knows of this system.
const ADMIN: &str = "/var/lib/dpkg";

/// Directories that a merged `/usr` has as links; packages name files by either.
const ALIASES: [&[u8]; 6] = [b"/bin", b"/sbin", b"/lib", b"/lib32", b"/lib64", b"/libx32"];

/// A package that is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, such as `amd64` or `all`.
    pub architecture: String,
    /// The source package that it was built from.
    pub source: String,
    /// The version of that one.
    pub source_version: String,
}

/// `libc6-dev 2.36-9+deb12u10`
impl Display for Package {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// The packages of a system.
#[derive(Debug, Clone)]
pub struct Packages {
    admin: PathBuf,
    /// Directories at the top that are links into `/usr`.
    merged: Vec<&'static [u8]>,
}

/// By path: the package that owns it. What no package owns is not in it.
pub type Owners = BTreeMap<Vec<u8>, Package>;

impl Packages {
    /// Those of this system; none where dpkg has installed nothing.
    #[must_use]
    pub fn here() -> Option<Self> {
        let this = Self::of(Path::new("/"));
        this.admin.join("status").exists().then_some(this)
    }

    /// Those of the system under a root.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let is_merged = |dir: &&&[u8]| {
            let relative = Path::new(OsStr::from_bytes(&dir[1..]));
            fs::symlink_metadata(root.join(relative)).is_ok_and(|found| found.is_symlink())
        };
        let admin = ADMIN.trim_start_matches('/');
        Self {
            admin: root.join(admin),
            merged: ALIASES.iter().filter(is_merged).copied().collect(),
        }
    }

    /// Who owns each of some absolute paths. One that several packages own is the first one's, by name. Costs
    /// the reading of all lists of files once (about 10 ms for a thousand packages), however many are asked for.
    ///
    /// # Errors
    /// dpkg's files cannot be read.
    pub fn owners<'p>(&self, paths: impl IntoIterator<Item = &'p [u8]>) -> io::Result<Owners> {
        let mut wanted: HashMap<Vec<u8>, Vec<&[u8]>> = HashMap::new();
        let diversions = self.diversions()?;
        let diverted: HashMap<&[u8], &Diversion> =
            diversions.iter().map(|one| (&*one.to, one)).collect();
        // A directory of a merged `/usr` is a link that was not there when packages were made.
        let is_merged = |path: &&[u8]| self.merged.iter().any(|link| link == path);
        for path in paths.into_iter().filter(|path| !is_merged(path)) {
            let plain = self.plain(path);
            // What was moved out of the way is listed by its first name.
            let listed = diverted.get(&*plain).map(|one| one.from.clone());
            wanted
                .entry(listed.unwrap_or(plain))
                .or_default()
                .push(path);
        }
        let by_first: HashMap<&[u8], &Diversion> =
            diversions.iter().map(|one| (&*one.from, one)).collect();
        let mut found: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        for (package, list) in self.lists()? {
            if wanted.is_empty() {
                break;
            }
            let text = fs::read(list)?;
            let bare = package.split(':').next().unwrap_or_default();
            for line in text.split(|byte| *byte == b'\n') {
                let plain = self.merged(line);
                let asked = match &plain {
                    Some(plain) => wanted.get(&**plain),
                    None => wanted.get(line),
                };
                for path in asked.into_iter().flatten() {
                    let first = plain.as_deref().unwrap_or(line);
                    let moved = by_first
                        .get(first)
                        .filter(|diversion| diversion.by != bare.as_bytes());
                    let place = moved.map_or(first, |diversion| &diversion.to);
                    if place == self.plain(path) && !found.contains_key(*path) {
                        found.insert(path.to_vec(), package.clone());
                    }
                }
            }
        }
        let packages = self.installed(&found)?;
        let owner =
            |(path, package): (Vec<u8>, String)| Some((path, packages.get(&package)?.clone()));
        Ok(found.into_iter().filter_map(owner).collect())
    }

    /// By name, with the architecture where dpkg names its list with it: what is known of the packages.
    fn installed(
        &self,
        wanted: &BTreeMap<Vec<u8>, String>,
    ) -> io::Result<HashMap<String, Package>> {
        let mut packages: HashMap<String, Package> = HashMap::new();
        for name in wanted.values() {
            packages.entry(name.clone()).or_default();
        }
        if packages.is_empty() {
            return Ok(packages);
        }
        let status = fs::read(self.admin.join("status"))?;
        let status = String::from_utf8_lossy(&status);
        for stanza in status.split("\n\n") {
            let (package, is_installed) = stanza_of(stanza);
            let whole = format!("{}:{}", package.name, package.architecture);
            for name in [&whole, &package.name] {
                // Of one that was removed, or is there for another architecture, the configuration may be left.
                if let Some(place) = packages
                    .get_mut(name)
                    .filter(|place| is_installed || place.name.is_empty())
                {
                    *place = package.clone();
                }
            }
        }
        packages.retain(|_, package| !package.name.is_empty());
        Ok(packages)
    }

    /// The lists of files, by the names of their packages.
    fn lists(&self) -> io::Result<BTreeMap<String, PathBuf>> {
        let mut lists = BTreeMap::new();
        for entry in fs::read_dir(self.admin.join("info"))? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(package) = name.to_str().and_then(|name| name.strip_suffix(".list")) {
                lists.insert(package.to_owned(), entry.path());
            }
        }
        Ok(lists)
    }

    /// Files that lie elsewhere than their packages say.
    fn diversions(&self) -> io::Result<Vec<Diversion>> {
        let text = match fs::read(self.admin.join("diversions")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let diversion = |lines: &[&[u8]]| Diversion {
            from: self.plain(lines[0]),
            to: self.plain(lines[1]),
            by: lines[2].to_vec(),
        };
        Ok(lines.chunks_exact(3).map(diversion).collect())
    }

    /// A path as it is without the links of a merged `/usr`.
    fn plain(&self, path: &[u8]) -> Vec<u8> {
        self.merged(path).unwrap_or_else(|| path.to_vec())
    }

    fn merged(&self, path: &[u8]) -> Option<Vec<u8>> {
        let is_below = |dir: &&&[u8]| {
            let rest = path.strip_prefix(**dir);
            rest.is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        let _below = self.merged.iter().find(is_below)?;
        Some([b"/usr", path].concat())
    }
}

#[derive(Debug)]
struct Diversion {
    from: Vec<u8>,
    to: Vec<u8>,
    /// The package whose file keeps its place; `:` for none.
    by: Vec<u8>,
}

/// The package of a stanza, and whether it is installed.
fn stanza_of(stanza: &str) -> (Package, bool) {
    let mut package = Package::default();
    let mut is_installed = true;
    for line in stanza.lines() {
        let Some((field, value)) = line.split_once(": ") else {
            continue;
        };
        let place = match field {
            "Status" => {
                is_installed = value.ends_with(" installed");
                continue;
            }
            "Package" => &mut package.name,
            "Version" => &mut package.version,
            "Architecture" => &mut package.architecture,
            "Source" => &mut package.source,
            _ => continue,
        };
        value.clone_into(place);
    }
    // `Source: gcc-defaults (1.203)` where it has another version.
    let (source, version) = match package.source.split_once(" (") {
        Some((source, version)) => (source.to_owned(), version.trim_end_matches(')').to_owned()),
        None => (package.source.clone(), package.version.clone()),
    };
    package.source_version = version;
    package.source = if source.is_empty() {
        package.name.clone()
    } else {
        source
    };
    (package, is_installed)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests make a system")]

    use super::*;

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\n\
        Multi-Arch: same\nSource: glibc\nVersion: 2.36\nDescription: C\n Version: no field\n\n\
        Package: dash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 0.5\n\n\
        Package: dash\nStatus: deinstall ok config-files\nArchitecture: i386\nVersion: 0.4\n\n\
        Package: libc6\nArchitecture: i386\nSource: glibc (9)\nVersion: 2.35\n\n\
        Package: mine\nArchitecture: all\nVersion: 1\n";

    fn system(merged: bool) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let info = root.path().join("var/lib/dpkg/info");
        std::fs::create_dir_all(&info).unwrap();
        if merged {
            std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        }
        let files = [
            (
                "info/libc6:amd64.list",
                "/.\n/lib\n/lib/x/libc.so\n/usr/share/both\n",
            ),
            ("info/libc6:i386.list", "/lib/i/libc.so\n/usr/share/both\n"),
            ("info/dash.list", "/bin/sh\n/usr/bin/dash\n"),
            ("info/mine.list", "/bin/sh\n"),
            ("info/gone.list", "/usr/gone\n"),
            ("status", STATUS),
            (
                "diversions",
                "/bin/sh\n/bin/sh.distrib\nmine\n/usr/bin/dash\n/usr/bin/dash.old\n:\n",
            ),
        ];
        for (name, text) in files {
            std::fs::write(root.path().join("var/lib/dpkg").join(name), text).unwrap();
        }
        root
    }

    fn owner(root: &Path, path: &str) -> Option<String> {
        let owners = Packages::of(root).owners([path.as_bytes()]).unwrap();
        owners.get(path.as_bytes()).map(Package::to_string)
    }

    #[test]
    fn a_file_is_owned_by_either_name_of_its_directory() {
        let (merged, plain) = (system(true), system(false));
        let (new, old) = ("/usr/lib/x/libc.so", "/lib/x/libc.so");
        assert_eq!(owner(merged.path(), new).unwrap(), "libc6 2.36");
        assert_eq!(owner(merged.path(), old).unwrap(), "libc6 2.36");
        assert_eq!(owner(plain.path(), old).unwrap(), "libc6 2.36");
        assert_eq!(owner(plain.path(), new), None);
        assert_eq!(owner(merged.path(), "/library/x"), None);
        // What all packages name that have a file in it is nobody's.
        assert_eq!(owner(merged.path(), "/lib"), None);
        assert_eq!(owner(plain.path(), "/lib").unwrap(), "libc6 2.36");
    }

    #[test]
    fn what_is_diverted_is_owned_by_whom_it_is_of() {
        let root = system(false);
        assert_eq!(owner(root.path(), "/bin/sh").unwrap(), "mine 1");
        assert_eq!(owner(root.path(), "/bin/sh.distrib").unwrap(), "dash 0.5");
        assert_eq!(owner(root.path(), "/usr/bin/dash.old").unwrap(), "dash 0.5");
        assert_eq!(owner(root.path(), "/usr/bin/dash"), None);
    }

    #[test]
    fn a_package_has_a_source_and_an_architecture() {
        let root = system(true);
        let packages = Packages::of(root.path());
        let paths: [&[u8]; 3] = [b"/lib/i/libc.so", b"/usr/share/both", b"/usr/gone"];
        let owners = packages.owners(paths).unwrap();
        let of = |path: &[u8]| {
            let one = &owners[path];
            (&*one.architecture, &*one.source, &*one.source_version)
        };
        assert_eq!(of(b"/lib/i/libc.so"), ("i386", "glibc", "9"));
        assert_eq!(of(b"/usr/share/both"), ("amd64", "glibc", "2.36"));
        assert!(
            !owners.contains_key(&b"/usr/gone"[..]),
            "it is not installed"
        );
    }
}
