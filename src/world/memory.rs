//! What was seen of each path, and whether it has to be looked at again. Looks at nothing itself.

use super::look::is_told_by_name;
use super::outside;
use crate::base::{Kind, PathId, Seen};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) struct Inner {
    pub(super) ids: HashMap<Arc<Path>, PathId>,
    pub(super) slots: Vec<Slot>,
    pub(super) outside: Told,
    /// How often there was news of the outside.
    pub(super) news: u64,
}

/// What the kernel tells of the outside.
pub(super) enum Told {
    /// Nothing yet.
    NotYet,
    /// What changes.
    News(Box<outside::Outside>),
    /// It does not.
    Nothing,
}

pub(super) struct Slot {
    pub(super) path: Arc<Path>,
    pub(super) seen: Option<Arc<Seen>>,
    /// What was seen is there until there is news.
    pub(super) settled: bool,
    /// How often it was told to have changed outside of the build, and whether nobody has looked since.
    pub(super) told: u64,
    pub(super) is_news: bool,
    /// How often the build itself has changed it.
    pub(super) changes: u32,
}

impl Inner {
    pub(super) fn id(&mut self, path: &Path) -> PathId {
        if let Some(id) = self.ids.get(path) {
            return *id;
        }
        let id = PathId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let path: Arc<Path> = path.into();
        self.slots.push(Slot {
            path: path.clone(),
            seen: None,
            settled: false,
            told: 0,
            is_news: false,
            changes: 0,
        });
        self.ids.insert(path, id);
        id
    }

    /// A path outside is about to be looked at: how much news there was, if its changes will be told.
    pub(super) fn cover(&mut self, path: &Path) -> Option<u64> {
        let Told::News(outside) = &mut self.outside else {
            return None;
        };
        outside.covers_name(path).then_some(self.news)
    }

    /// Whether each change of what was seen will be told from now on, those of the name being told.
    pub(super) fn covers(&mut self, path: &Path, seen: &Seen) -> bool {
        let Told::News(outside) = &mut self.outside else {
            return false;
        };
        match seen.kind {
            Kind::Absent | Kind::Link => true,
            Kind::File => is_told_by_name(seen) || outside.covers_file(path),
            Kind::Dir => outside.covers(path),
            Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown(_) => false,
        }
    }

    /// Gives how many directories, links and absent names have changed, as far as somebody has looked at them.
    pub(super) fn hear(&mut self) -> u64 {
        let Told::News(outside) = &mut self.outside else {
            return 0;
        };
        let (mut leads, mut tops) = (0, HashSet::new());
        for news in outside.news() {
            self.news += 1;
            match news {
                outside::News::Name(path) => {
                    if let Some(id) = self.ids.get(&*path) {
                        leads += self.slots[id.0 as usize].tell();
                    }
                }
                outside::News::Below(top) => {
                    tops.insert(top);
                }
                outside::News::Anything => {
                    tops.insert(PathBuf::from("/"));
                }
            }
        }
        if !tops.is_empty() {
            leads += 1;
            let is_below = |slot: &Slot| slot.path.ancestors().any(|dir| tops.contains(dir));
            for slot in self.slots.iter_mut().filter(|slot| is_below(slot)) {
                leads += slot.tell();
            }
        }
        leads
    }
}

impl Slot {
    /// It has changed: 1 if other paths may lead elsewhere for that.
    fn tell(&mut self) -> u64 {
        if !std::mem::take(&mut self.settled) {
            return 0;
        }
        self.told += 1;
        self.is_news = true;
        let leads = |seen: &Arc<Seen>| seen.kind != Kind::File;
        self.seen.as_ref().is_some_and(leads).into()
    }
}
