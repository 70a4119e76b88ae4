//! `RFS_LOG=error|warn|info|debug|trace`: what happens inside, on standard error.

use super::console;
use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = record.level().as_str().to_ascii_lowercase();
        console::tell(format_args!(
            "{level}: {}: {}",
            record.target(),
            record.args()
        ));
    }

    fn flush(&self) {}
}

/// Starts logging where `RFS_LOG` asks for it.
pub(super) fn start() {
    let Some(asked) = super::place::variable("RFS_LOG") else {
        return;
    };
    let Some(level) = asked.to_str().and_then(|text| text.parse().ok()) else {
        console::warn(
            format_args!(
                "RFS_LOG={} is not a level of logging",
                asked.to_string_lossy()
            ),
            Some("the levels are off, error, warn, info, debug and trace"),
        );
        return;
    };
    if level != LevelFilter::Off && log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
