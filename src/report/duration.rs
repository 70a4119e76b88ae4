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

/// A time as people give it: `90`, `90s`, `10m`, `2h`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    let number: u64 = number
        .parse()
        .map_err(|_not_a_number| format!("{text} is not a time such as 90, 10m or 2h"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("7", 7), ("7s", 7), ("10m", 600), ("2h", 7200)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "-1", "1d", "1.5h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

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
