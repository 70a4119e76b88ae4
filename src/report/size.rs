//! Sizes in bytes for people.

/// `0 B`, `999 B`, `1.5 KiB`, `12.0 MiB`, `3.2 GiB`.
#[must_use]
pub fn text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Reads a number of bytes, with `K`, `M`, `G` or `T` for powers of 1024.
///
/// # Errors
/// It is none; the message says what one looks like.
pub fn parse(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        Some(_) | None => (text, 0),
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "not a size such as 500M or 20G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_reads_well() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (12 << 20, "12.0 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(text(bytes), want);
        }
        assert!(text(u64::MAX).ends_with(" TiB"));
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("20G"), Ok(20 << 30));
        assert_eq!(parse("7k"), Ok(7 << 10));
        for bad in ["", "G", "1.5G", "-1", "99999999T", "1GB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
