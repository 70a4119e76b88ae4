//! Sets of processors or of memory nodes, by the numbers that the kernel gives them, in the kernel's
//! own text format (cpuset(7), "List format" and "Mask format").

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Largest number that is taken from text: no machine comes near, and memory stays bounded.
const LIMIT: usize = 1 << 16;

/// A finite set of small numbers.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuSet {
    /// Bit `i % 64` of word `i / 64`; the last word is never 0, so that equal sets are equal values.
    words: Vec<u64>,
}

/// A text that is no set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no list of numbers like 0-3,8 (none above {max})", max = LIMIT - 1)]
pub struct NotASet(String);

impl CpuSet {
    /// Adds a number.
    pub fn insert(&mut self, number: usize) {
        let word = number / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    /// Whether it holds this number.
    #[must_use]
    pub fn contains(&self, number: usize) -> bool {
        self.words
            .get(number / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// How many numbers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Its numbers, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| at * 64 + bit)
        })
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both = self.words.iter().zip(&other.words).map(|(a, b)| a & b);
        Self::of(both.collect())
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// What is in this one only.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.iter()
            .filter(|&number| !other.contains(number))
            .collect()
    }

    /// Whether all of `other` is in this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.without(self).is_empty()
    }

    /// Whether they have something in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        !self.and(other).is_empty()
    }

    /// Its bits, 64 a word, lowest first, as sched_setaffinity(2) and set_mempolicy(2) take them.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// A mask in hexadecimal, with or without `0x` and the kernel's commas between words of 32 bits.
    ///
    /// # Errors
    /// When the text is no mask.
    pub fn from_mask(text: &str) -> Result<Self, NotASet> {
        let no = || NotASet(text.to_owned());
        let digits = text.replace(",0x", "").replace(',', "");
        let digits = digits.strip_prefix("0x").unwrap_or(&digits);
        if digits.is_empty() || digits.len() > LIMIT / 4 {
            return Err(no());
        }
        let mut set = Self::default();
        for (at, digit) in digits.chars().rev().enumerate() {
            let value = digit.to_digit(16).ok_or_else(no)?;
            for bit in (0..4).filter(|bit| value >> bit & 1 == 1) {
                set.insert(at * 4 + bit);
            }
        }
        Ok(set)
    }

    fn of(mut words: Vec<u64>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut set = Self::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

/// The list format, `0-3,8`; the empty text is the empty set.
impl FromStr for CpuSet {
    type Err = NotASet;

    fn from_str(text: &str) -> Result<Self, NotASet> {
        let no = || NotASet(text.to_owned());
        let number = |text: &str| -> Result<usize, NotASet> {
            let number = text.parse().map_err(|_not_a_number| no())?;
            if number < LIMIT {
                Ok(number)
            } else {
                Err(no())
            }
        };
        let mut set = Self::default();
        for part in text
            .trim()
            .split(',')
            .filter(|_part| !text.trim().is_empty())
        {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(no());
            }
            (first..=last).for_each(|number| set.insert(number));
        }
        Ok(set)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while numbers.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_back() {
        for text in ["", "0", "0-3,8", "63-64", "1,3,5,127-130"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set("3,1,2").to_string(), "1-3");
        for text in ["-", "3-1", "a", "1,,2", "0-99999999", " ,"] {
            text.parse::<CpuSet>().unwrap_err();
        }
    }

    #[test]
    fn masks() {
        assert_eq!(CpuSet::from_mask("0xff").unwrap(), set("0-7"));
        assert_eq!(CpuSet::from_mask("1,00000000").unwrap(), set("32"));
        assert_eq!(CpuSet::from_mask("0x1,0x00000000").unwrap(), set("32"));
        CpuSet::from_mask("0x").unwrap_err();
        CpuSet::from_mask("xyz").unwrap_err();
    }

    #[test]
    fn algebra() {
        let (a, b) = (set("0-3,100"), set("2-5"));
        assert_eq!(a.and(&b), set("2-3"));
        assert_eq!(a.or(&b), set("0-5,100"));
        assert_eq!(a.without(&b), set("0-1,100"));
        assert!(a.covers(&set("100")) && !a.covers(&b) && a.meets(&b));
        assert_eq!(
            a.without(&set("100")),
            set("0-3"),
            "no empty words are left"
        );
        assert_eq!((a.len(), set("").is_empty()), (5, true));
    }
}
