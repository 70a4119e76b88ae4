//! Files that a step made for those that it started and then removed, such as the sources that a configure
//! script tries to compile. Each begins where the one before it does as far as both have the same text:
//! what configure scripts try begins with all that they have found so far.

use super::Digest;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of the scraps of one step, at most; later ones are not kept.
const MOST: usize = 4 << 20;

/// Bytes of all texts of one step, at most: what is kept may share much more than it has.
const MOST_TEXT: usize = 64 * MOST;

/// Texts of files that are gone, in the order in which they went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scraps {
    all: Vec<Scrap>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Scrap {
    digest: Digest,
    /// Bytes at the start that are those of the scrap before.
    shared: u32,
    rest: String,
}

/// Scraps in the making.
#[derive(Debug, Default)]
pub struct Collecting {
    scraps: Scraps,
    last: Option<Arc<str>>,
    n_bytes: usize,
}

impl Collecting {
    /// One more is about to go.
    pub fn add(&mut self, digest: Digest, text: Arc<str>) {
        if self
            .scraps
            .all
            .last()
            .is_some_and(|last| last.digest == digest)
        {
            return;
        }
        let last = self.last.as_deref().unwrap_or_default();
        let pairs = last.char_indices().zip(text.chars());
        let differs = pairs.clone().find(|((_, old), new)| old != new);
        let shared = differs.map_or(last.len().min(text.len()), |((at, _), _)| at);
        let rest = text[shared..].to_owned();
        self.n_bytes += rest.len();
        if self.n_bytes > MOST {
            return;
        }
        self.scraps.all.push(Scrap {
            digest,
            shared: u32::try_from(shared).unwrap_or(u32::MAX),
            rest,
        });
        self.last = Some(text);
    }

    /// Those that there were.
    #[must_use]
    pub fn scraps(&self) -> Scraps {
        self.scraps.clone()
    }
}

impl Scraps {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The texts, with what names their content. Ends where what was read makes no sense.
    #[must_use]
    pub fn texts(&self) -> Vec<(Digest, String)> {
        let mut found: Vec<(Digest, String)> = Vec::new();
        let mut n_bytes = 0;
        for scrap in &self.all {
            let last = found.last().map_or("", |(_, text)| text);
            let Some(shared) = last.get(..scrap.shared as usize) else {
                break;
            };
            n_bytes += shared.len() + scrap.rest.len();
            if n_bytes > MOST_TEXT {
                break;
            }
            let text = format!("{shared}{}", scrap.rest);
            found.push((scrap.digest, text));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(texts: &[&str]) -> Scraps {
        let mut collecting = Collecting::default();
        for text in texts {
            collecting.add(Digest::of(text.as_bytes()), (*text).into());
        }
        collecting.scraps()
    }

    #[test]
    fn texts_are_given_back_and_what_they_share_is_kept_once() {
        let head = "#define A 1\n".repeat(100);
        let texts: Vec<String> = ["", "x\u{e9}y", "x\u{e8}y", "x", &head, "b"]
            .iter()
            .flat_map(|own| {
                [
                    own.to_string(),
                    format!("{head}{own}"),
                    format!("{head}#define B\n{own}"),
                ]
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = collected(&texts).texts();
        assert_eq!(
            found.iter().map(|(_, text)| &**text).collect::<Vec<_>>(),
            texts
        );
        assert!(
            found
                .iter()
                .all(|(digest, text)| *digest == Digest::of(text.as_bytes()))
        );

        let ones: Vec<String> = (0..50).map(|n| format!("{head}int f{n};")).collect();
        let ones: Vec<&str> = ones.iter().map(String::as_str).collect();
        let bytes: usize = collected(&ones).all.iter().map(|one| one.rest.len()).sum();
        assert!(bytes < head.len() + 50 * 10, "{bytes}");
        assert_eq!(collected(&["a", "a"]).texts().len(), 1);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept_and_to_what_is_believed() {
        let big: String = "z".repeat(MOST / 2 + 1);
        assert_eq!(
            collected(&[&big, "a", &format!("b{big}"), "c"])
                .texts()
                .len(),
            2
        );
        let mut scraps = collected(&["abc", "abd", "x"]);
        scraps.all[1].shared = 9;
        assert_eq!(scraps.texts().len(), 1);
        let mut bomb = collected(&["z".repeat(MOST - 1).as_str(), "y"]);
        let more = Scrap {
            shared: u32::try_from(MOST - 1).unwrap(),
            ..bomb.all[1].clone()
        };
        bomb.all[1] = more.clone();
        bomb.all.resize(10_000, more);
        let texts = bomb.texts();
        assert!(texts.iter().map(|(_, text)| text.len()).sum::<usize>() <= MOST_TEXT);
    }
}
