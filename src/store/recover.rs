//! Opening a store that may not be usable: what cannot be read is set aside, never asked again.

use super::schema::SCHEMA;
use super::{Error, Store};
use crate::disk::Disk;
use std::path::Path;
use std::sync::Arc;

/// Opens the store at `path`. One that is damaged or older is set aside, and an empty one takes its
/// place. None if there is nothing to write to or it must be left alone; then, as after every loss, it
/// is told why.
#[must_use]
pub fn open(path: &Path, disk: &Arc<dyn Disk>) -> (Option<Arc<Store>>, Option<Error>) {
    let (opened, told) = match Store::open(path, SCHEMA, disk.clone()) {
        Err(error) if error.is_loss() => match set_aside(path, &**disk, error) {
            Ok(told) => (Store::open(path, SCHEMA, disk.clone()), Some(told)),
            Err(error) => (Err(error), None),
        },
        opened => (opened, None),
    };
    match opened {
        Ok(store) => (Some(Arc::new(store)), told),
        Err(error) => (None, Some(error)),
    }
}

/// Sets a store aside of which `why` says that it cannot be used. Gives what is to be told: an
/// [`Error::SetAside`].
///
/// # Errors
/// It could not be done.
pub fn set_aside(path: &Path, disk: &dyn Disk, why: Error) -> Result<Error, Error> {
    let aside = Store::set_aside(path, disk)?;
    Ok(Error::SetAside {
        why: Box::new(why),
        aside,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // damages files

    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    #[test]
    fn what_cannot_be_read_is_set_aside_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (store, told) = open(&path, &disk);
        assert!(store.is_some() && told.is_none());
        for damage in ["", "something else"] {
            fs::write(&path, damage).unwrap();
            let (store, told) = open(&path, &disk);
            assert!(store.unwrap().begin().is_ok());
            let text = told.unwrap().to_string();
            assert!(text.contains("index is damaged at byte 0"), "{text}");
            assert!(text.contains("index.damaged"), "{text}");
            let aside = fs::read(dir.path().join("index.damaged")).unwrap();
            assert_eq!(aside, damage.as_bytes());
        }
        drop(Store::open(
            &dir.path().join("newer"),
            SCHEMA + 1,
            disk.clone(),
        ));
        let (store, told) = open(&dir.path().join("newer"), &disk);
        assert!(store.is_none() && matches!(told, Some(Error::Newer { .. })));
        fs::create_dir(dir.path().join("dir")).unwrap();
        let (store, told) = open(&dir.path().join("dir"), &disk);
        assert!(store.is_none() && told.is_some());
    }
}
