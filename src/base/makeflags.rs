//! What the flags that make passes on in the environment say of the number of jobs (GNU make's manual,
//! "POSIX Jobserver Interaction").

/// Variables that hold such flags.
pub const NAMES: [&[u8]; 4] = [b"MAKEFLAGS", b"MFLAGS", b"CARGO_MAKEFLAGS", b"GNUMAKEFLAGS"];

/// Whether a word says how many jobs run at once or where their tokens are.
#[must_use]
pub fn is_jobs(word: &[u8]) -> bool {
    let digits = |rest: &[u8]| rest.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    word.strip_prefix(b"-j").is_some_and(digits)
        || word.strip_prefix(b"-l").is_some_and(digits)
        || word == b"--jobs"
        || word.starts_with(b"--jobs=")
        || word.starts_with(b"--jobserver")
}

/// The flags without what concerns the number of jobs.
#[must_use]
pub fn without_jobs(flags: &[u8]) -> Vec<u8> {
    let words = flags.split(|b| *b == b' ');
    let kept: Vec<&[u8]> = words
        .filter(|word| !word.is_empty() && !is_jobs(word))
        .collect();
    kept.join(&b' ')
}

/// The flags with `jobs` and no other words of that kind. Variables for make, after `--`, stay at the end.
#[must_use]
pub fn with_jobs(flags: &[u8], jobs: &[u8]) -> Vec<u8> {
    let flags = without_jobs(flags);
    let variables = match flags.strip_prefix(b"-- ") {
        Some(_) => Some(0),
        None => flags.windows(4).position(|at| at == b" -- "),
    };
    let (options, variables) = flags.split_at(variables.unwrap_or(flags.len()));
    // Without a space before it the first word would be taken for a bundle of letters.
    [
        options,
        b" ",
        jobs,
        if variables.starts_with(b"--") {
            b" "
        } else {
            b""
        },
        variables,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_jobs_is_taken_out() {
        let flags = b"w -j8 --jobserver-auth=3,4 -- CC=gcc";
        assert_eq!(without_jobs(flags), b"w -- CC=gcc");
        assert_eq!(without_jobs(b" -j"), b"");
        assert_eq!(without_jobs(b"ks -l2.5 -j2 --jobserver-fds=5,6"), b"ks");
    }

    #[test]
    fn and_put_in() {
        for (flags, whole) in [
            (&b""[..], &b" -j2"[..]),
            (b"k", b"k -j2"),
            (b"k -j9 --jobserver-auth=fifo:/x -- A=b -j", b"k -j2 -- A=b"),
            (b"-- A=b", b" -j2 -- A=b"),
            (b"--no-print-directory", b"--no-print-directory -j2"),
        ] {
            let made = with_jobs(flags, b"-j2");
            assert_eq!(made, whole, "{}", flags.escape_ascii());
            assert_eq!(without_jobs(&made), without_jobs(flags));
        }
    }
}
