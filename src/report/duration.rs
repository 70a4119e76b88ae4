//! Durations for people.

use std::time::Duration;

/// `0.04 s`, `9.8 s`, `14m12s`, `3h05m`.
#[must_use]
pub fn text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = (duration + Duration::from_millis(500)).as_secs();
    if seconds < 0.995 {
        format!("{seconds:.2} s")
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{}m{:02}s", whole / 60, whole % 60)
    } else {
        format!("{}h{:02}m", whole / 3600, whole % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_reads_well() {
        for (ms, want) in [
            (0, "0.00 s"),
            (42, "0.04 s"),
            (994, "0.99 s"),
            (996, "1.0 s"),
            (9_800, "9.8 s"),
            (59_960, "1m00s"),
            (852_000, "14m12s"),
            (3_599_700, "1h00m"),
            (11_100_000, "3h05m"),
        ] {
            assert_eq!(text(Duration::from_millis(ms)), want);
        }
    }
}
