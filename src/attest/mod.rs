//! Who made a file from what, as signed statements for others: in-toto statements with SLSA provenance, SPDX
//! documents, and the envelope (DSSE) that holds either with its signature. Pure: knows no store and no file.

pub mod envelope;
pub mod sha256;
pub mod spdx;
pub mod statement;

use crate::base::Digest;
use sha256::Sha256;

/// A file that was made, and from what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// Its path in the workspace.
    pub name: String,
    /// Its content.
    pub digests: Digests,
    /// The command of the build that made it.
    pub command: String,
    /// Number of that build.
    pub run: u32,
    /// Seconds since 1970 at the start of that build.
    pub began: i64,
    /// The same at the end of the last step that it was made by.
    pub ended: i64,
    /// The steps that it was made by, in the order in which they ended.
    pub steps: Vec<Step>,
    /// What these read and none of them wrote.
    pub inputs: Vec<Input>,
    /// What these wrote and read again.
    pub between: Vec<Input>,
    /// Packages of the system that own inputs.
    pub packages: Vec<Package>,
    /// The host that it was made on.
    pub host: String,
    /// The version of rfs, and the way of tracing.
    pub tracer: (String, String),
}

/// What a content is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// As it was recorded.
    pub blake3: Option<Digest>,
    /// Where the content is still there.
    pub sha256: Option<Sha256>,
}

/// A step, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The argument vector.
    pub argv: Vec<String>,
    /// The working directory, in the workspace or absolute.
    pub cwd: String,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// In the workspace, or absolute.
    pub path: String,
    /// Its content, or the text of a symbolic link.
    pub digests: Digests,
    /// The package that owns it: its place among the packages.
    pub package: Option<usize>,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
}

impl Package {
    /// As a package URL.
    #[must_use]
    pub fn purl(&self) -> String {
        let version = percent(self.version.as_bytes());
        let (name, arch) = (percent(self.name.as_bytes()), &self.architecture);
        format!("pkg:deb/debian/{name}@{version}?arch={arch}")
    }
}

/// A URI of a path: `file:src/a.c`, `file:///usr/include/stdio.h`.
#[must_use]
pub fn uri(path: &str) -> String {
    let encoded = percent(path.as_bytes());
    match path.starts_with('/') {
        true => format!("file://{encoded}"),
        false => format!("file:{encoded}"),
    }
}

/// The path of a URI that [`uri`] has made.
#[must_use]
pub fn path(uri: &str) -> Option<Vec<u8>> {
    let text = uri
        .strip_prefix("file://")
        .or_else(|| uri.strip_prefix("file:"))?;
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(bytes)
}

fn percent(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(*byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris_and_come_back() {
        for (name, wanted) in [
            ("src/a b.c", "file:src/a%20b.c"),
            ("/usr/x+y", "file:///usr/x%2By"),
            ("caf\u{e9}", "file:caf%C3%A9"),
        ] {
            assert_eq!(uri(name), wanted);
            assert_eq!(path(wanted).unwrap(), name.as_bytes());
        }
        assert_eq!(path("file:a%2"), None);
        assert_eq!(path("pkg:deb/x"), None);
    }

    #[test]
    fn packages_have_urls() {
        let package = Package {
            name: "libstdc++6".to_owned(),
            version: "1:12.2.0-14+deb12u1".to_owned(),
            architecture: "amd64".to_owned(),
        };
        assert_eq!(
            package.purl(),
            "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0-14%2Bdeb12u1?arch=amd64"
        );
    }
}
