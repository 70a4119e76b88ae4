//! What was seen of each path, and whether it has to be looked at again. Looks at nothing itself.

use super::look::is_told_by_name;
use super::outside;
use crate::base::{Kind, PathId, Seen};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// How often paths outside of the workspace are looked at again before the kernel is asked to tell of their
/// changes. To end that takes it some milliseconds (inotify(7); it waits for all its readers), as much as
/// thousands of looks.
pub(super) const WORTH: u32 = 256;

pub(super) struct Inner {
    pub(super) ids: HashMap<Arc<Path>, PathId>,
    pub(super) slots: Vec<Slot>,
    pub(super) outside: Told,
    /// How often there was news of the outside.
    pub(super) news: u64,
}

/// What the kernel tells of the outside.
pub(super) enum Told {
    /// Nothing yet; paths there were looked at again so often.
    NotYet(u32),
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
            changes: 0,
        });
        self.ids.insert(path, id);
        id
    }

    /// A path outside is about to be looked at: how much news there was, if its changes will be told.
    pub(super) fn cover(&mut self, path: &Path, is_again: bool) -> Option<u64> {
        if let Told::NotYet(times) = &mut self.outside {
            *times += u32::from(is_again);
            if *times >= WORTH {
                let told = outside::Outside::new();
                self.outside = told.map_or(Told::Nothing, |told| Told::News(Box::new(told)));
            }
        }
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

    pub(super) fn hear(&mut self) {
        let Told::News(outside) = &mut self.outside else {
            return;
        };
        for news in outside.news() {
            self.news += 1;
            match news {
                outside::News::Name(path) => {
                    if let Some(id) = self.ids.get(&*path) {
                        self.slots[id.0 as usize].settled = false;
                    }
                }
                outside::News::Below(top) => self.unsettle(|path| path.starts_with(&top)),
                outside::News::Anything => self.unsettle(|_| true),
            }
        }
    }

    fn unsettle(&mut self, which: impl Fn(&Path) -> bool) {
        for slot in &mut self.slots {
            slot.settled &= !which(&slot.path);
        }
    }
}
