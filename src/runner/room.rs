//! How much room the machine has for steps: memory that is free or that control groups allow, and pressure
//! as the kernel tells it (PSI, Documentation/accounting/psi.rst).

use super::budget;
use crate::watch::hold::Room;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// More pressure than this, in percent of the last ten seconds in which somebody waited, is too much.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    cpu: Option<f64>,
    memory: Option<f64>,
    io: Option<f64>,
}

/// `cpu=80,memory=10,io=50`, or some of it.
impl FromStr for Pressure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pressure = Self::default();
        for part in text.split(',') {
            let (name, percent) = part.split_once('=').unwrap_or((part, ""));
            let percent = percent
                .parse()
                .ok()
                .filter(|percent| (0.0..=100.0).contains(percent));
            let percent = percent.ok_or_else(|| format!("{part:?} is not like cpu=80"))?;
            match name {
                "cpu" => pressure.cpu = Some(percent),
                "memory" => pressure.memory = Some(percent),
                "io" => pressure.io = Some(percent),
                _ => return Err(format!("{name:?} is none of cpu, memory and io")),
            }
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
    pressure: Pressure,
    proc: PathBuf,
}

impl Here {
    /// With at most `budget` bytes; without: what is free now, and less where control groups allow less.
    #[must_use]
    pub fn new(budget: Option<u64>, pressure: Pressure) -> Self {
        Self::at(Path::new("/proc"), budget, pressure)
    }

    fn at(proc: &Path, budget: Option<u64>, pressure: Pressure) -> Self {
        let text = std::fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            budget,
            free: number.map_or(u64::MAX, |kib| kib * 1024),
            pressure,
            proc: proc.to_owned(),
        }
    }
}

impl Room for Here {
    fn bytes(&self) -> u64 {
        let allowed = || budget::memory_limit().unwrap_or(u64::MAX).min(self.free);
        self.budget.unwrap_or_else(allowed)
    }

    fn pressed(&self) -> bool {
        let Pressure { cpu, memory, io } = self.pressure;
        [("cpu", cpu), ("memory", memory), ("io", io)]
            .into_iter()
            .filter_map(|(name, limit)| Some((name, limit?)))
            .any(|(name, limit)| some_avg10(&self.proc.join("pressure").join(name)) > limit)
    }

    fn feels_pressure(&self) -> bool {
        self.pressure != Pressure::default()
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
        let here = |pressure: &str| Here::at(proc.path(), None, pressure.parse().unwrap());
        assert!(here("cpu=49").pressed() && here("memory=1,io=1.5").pressed());
        assert!(
            !here("cpu=50,memory=0,io=2").pressed(),
            "memory is not told of"
        );
        assert!(here("io=99").feels_pressure());
        assert!(!Here::at(proc.path(), None, Pressure::default()).feels_pressure());
        assert!(here("io=1").bytes() <= 4 << 20);
        assert_eq!(
            Here::at(proc.path(), Some(7), Pressure::default()).bytes(),
            7
        );
        for wrong in ["", "cpu", "cpu=x", "cpu=101", "disk=3", "cpu=1,"] {
            wrong.parse::<Pressure>().unwrap_err();
        }
    }
}
