//! How much room the machine has for steps: memory that is free or that control groups allow, and pressure
//! as the kernel tells it (PSI, Documentation/accounting/psi.rst).

use super::budget;
use crate::watch::hold::Room;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// More pressure than this, in percent of the last ten seconds in which somebody waited, is too much.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pressure {
    limits: Vec<(Resource, f64)>,
    /// The control group whose pressure it is; none: the machine's.
    of: Option<PathBuf>,
}

/// What there can be too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Cpu,
    Memory,
    Io,
}

impl Resource {
    /// As the kernel's files are called.
    const NAMES: [(&'static str, Self); 3] = [
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("io", Self::Io),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Cpu => "cpu pressure",
            Self::Memory => "memory pressure",
            Self::Io => "io pressure",
        }
    }
}

/// `cpu=80,memory=10,io=50`, or some of it; with `of=DIRECTORY` the pressure of that control group.
impl FromStr for Pressure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pressure = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if name == "of" && value.starts_with('/') {
                pressure.of = Some(value.into());
                continue;
            }
            let known = Resource::NAMES.iter().find(|(known, _)| *known == name);
            let Some((_, resource)) = known else {
                return Err(format!(
                    "{part:?} is none of cpu, memory and io, nor `of=` a control group's directory"
                ));
            };
            let percent = value
                .parse()
                .ok()
                .filter(|percent| (0.0..=100.0).contains(percent));
            let percent = percent.ok_or_else(|| format!("{part:?} is not like cpu=80"))?;
            pressure.limits.push((*resource, percent));
        }
        Ok(pressure)
    }
}

/// This machine.
#[derive(Debug)]
pub struct Here {
    /// Bytes for all steps, where somebody has said how many.
    budget: Option<u64>,
    /// Bytes that were free at the start.
    free: u64,
    limits: Vec<Limit>,
}

/// More pressure in the file than so many percent is too much.
#[derive(Debug)]
struct Limit {
    resource: Resource,
    percent: f64,
    file: PathBuf,
}

impl Here {
    /// With at most `budget` bytes; without: what is free now, and less where control groups allow less.
    #[must_use]
    pub fn new(budget: Option<u64>, pressure: &Pressure) -> Self {
        Self::at(Path::new("/proc"), budget, pressure)
    }

    fn at(proc: &Path, budget: Option<u64>, pressure: &Pressure) -> Self {
        let text = std::fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        let limit = |(resource, percent): &(Resource, f64)| Limit {
            resource: *resource,
            percent: *percent,
            file: match &pressure.of {
                Some(group) => group.join(format!("{}.pressure", resource.name())),
                None => proc.join("pressure").join(resource.name()),
            },
        };
        Self {
            budget,
            free: number.map_or(u64::MAX, |kib| kib * 1024),
            limits: pressure.limits.iter().map(limit).collect(),
        }
    }

    /// The first file that should tell of pressure and cannot be read: nothing is held by that.
    #[must_use]
    pub fn unfelt(&self) -> Option<(&Path, io::Error)> {
        let unreadable = |limit: &Limit| std::fs::read(&limit.file).err();
        self.limits
            .iter()
            .find_map(|limit| Some((limit.file.as_path(), unreadable(limit)?)))
    }
}

impl Room for Here {
    fn bytes(&self) -> u64 {
        let allowed = || budget::memory_limit().unwrap_or(u64::MAX).min(self.free);
        self.budget.unwrap_or_else(allowed)
    }

    fn pressed(&self) -> Option<&'static str> {
        let is_too_much = |limit: &&Limit| some_avg10(&limit.file) > limit.percent;
        let found = self.limits.iter().find(is_too_much);
        found.map(|limit| limit.resource.told())
    }

    fn feels_pressure(&self) -> bool {
        !self.limits.is_empty()
    }
}

/// Percent of the last ten seconds; 0 where the kernel does not tell.
fn some_avg10(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("some "));
    let field = line.and_then(|line| line.split(' ').find_map(|word| word.strip_prefix("avg10=")));
    field.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests make a machine")]
    use super::*;

    #[test]
    fn what_the_kernel_tells() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("pressure")).unwrap();
        let say = |name: &str, text: &str| std::fs::write(proc.path().join(name), text).unwrap();
        say("meminfo", "MemTotal: 9 kB\nMemAvailable:       4096 kB\n");
        say(
            "pressure/cpu",
            "some avg10=50.00 avg60=1 total=1\nfull avg10=0.00 avg60=0\n",
        );
        say("pressure/io", "some avg10=2.00 avg60=1 total=1\n");
        let here = |pressure: &str| Here::at(proc.path(), None, &pressure.parse().unwrap());
        assert_eq!(here("cpu=49").pressed(), Some("cpu pressure"));
        assert_eq!(here("memory=1,io=1.5").pressed(), Some("io pressure"));
        assert_eq!(here("cpu=50,io=2").pressed(), None);
        assert_eq!(here("memory=0").pressed(), None, "memory is not told of");
        let (file, _error) = here("cpu=1,memory=0").unfelt().map_or_else(
            || panic!("memory is not told of"),
            |(file, error)| (file.to_owned(), error),
        );
        assert_eq!(file, proc.path().join("pressure/memory"));
        assert!(here("io=99").feels_pressure() && here("io=99").unfelt().is_none());
        let unasked = Pressure::default();
        assert!(!Here::at(proc.path(), None, &unasked).feels_pressure());
        assert!(here("io=1").bytes() <= 4 << 20);
        assert_eq!(Here::at(proc.path(), Some(7), &unasked).bytes(), 7);
        let group = proc.path().join("group");
        std::fs::create_dir(&group).unwrap();
        say("group/io.pressure", "some avg10=7.00 avg60=1 total=1\n");
        let of = format!("cpu=1,io=6,of={}", group.display());
        assert_eq!(here(&of).pressed(), Some("io pressure"));
        assert!(here(&of).unfelt().is_some(), "no cpu.pressure");
        for wrong in [
            "",
            "cpu",
            "cpu=x",
            "cpu=101",
            "disk=3",
            "cpu=1,",
            "of=",
            "cpu=1,of=a",
        ] {
            wrong.parse::<Pressure>().unwrap_err();
        }
    }
}
