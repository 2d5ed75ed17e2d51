//! SQLite's way to a [`Disk`](crate::disk::Disk): a file system as a table of C functions. The only
//! file of this crate with `unsafe` code.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, Once};

use rusqlite::ffi;

use crate::disk::{Pending, State, find, lock};

/// A file as SQLite holds it: its part first.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    open: *mut Open,
}

struct Open {
    disk: Arc<Mutex<State>>,
    file: usize,
    /// Deleted when it is closed.
    name: Option<String>,
}

/// # Safety
///
/// `name` is null or a C string that lives for `'a`.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, and a C string by the contract.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

/// # Safety
///
/// `file` was opened by [`open`] and not closed since.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Open {
    // SAFETY: by the contract it is a `Handle`, whose `open` came from a `Box`; SQLite uses a file
    // from one thread at a time.
    unsafe { &mut *(*file.cast::<Handle>()).open }
}

fn size(value: impl TryInto<usize>) -> usize {
    value.try_into().unwrap_or(0)
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite gives `szOsFile` writable bytes. Without methods it does not close the file.
    unsafe { (*handle).base.pMethods = std::ptr::null() };
    // SAFETY: SQLite's names are C strings.
    let Some((disk, name)) = (unsafe { text(name) }).and_then(find) else {
        return ffi::SQLITE_CANTOPEN;
    };
    let known = lock(&disk).names.get(name).copied();
    let id = match known {
        Some(id) => id,
        None if flags & ffi::SQLITE_OPEN_CREATE == 0 => return ffi::SQLITE_CANTOPEN,
        None if !lock(&disk).operate() => return ffi::SQLITE_CANTOPEN,
        None => lock(&disk).create(name),
    };
    let delete = flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0;
    let open = Box::new(Open {
        file: id,
        name: delete.then(|| name.to_owned()),
        disk,
    });
    // SAFETY: as above; the table of methods lives for ever.
    unsafe {
        (*handle).open = Box::into_raw(open);
        (*handle).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: opened by `open`, which made the box; SQLite closes once.
    let open = unsafe { Box::from_raw((*file.cast::<Handle>()).open) };
    if let Some(name) = &open.name {
        lock(&open.disk).delete(name, false);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    to: *mut c_void,
    len: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file; `to` has `len` bytes.
    let (open, to) = unsafe {
        (
            opened(file),
            std::slice::from_raw_parts_mut(to.cast::<u8>(), size(len)),
        )
    };
    let state = lock(&open.disk);
    if state.off {
        return ffi::SQLITE_IOERR_READ;
    }
    let from = state.files[open.file]
        .content
        .get(size(at)..)
        .unwrap_or(&[]);
    let there = from.len().min(to.len());
    to[..there].copy_from_slice(&from[..there]);
    to[there..].fill(0);
    if there < to.len() {
        return ffi::SQLITE_IOERR_SHORT_READ;
    }
    ffi::SQLITE_OK
}

/// A change of an open file, unless power fails: what fails in the middle is pending like the rest.
unsafe fn change(file: *mut ffi::sqlite3_file, change: Pending, error: c_int) -> c_int {
    // SAFETY: an open file, by the contract of the callers.
    let open = unsafe { opened(file) };
    let mut state = lock(&open.disk);
    if state.off {
        return error;
    }
    let done = state.operate();
    state.files[open.file].change(change);
    if done { ffi::SQLITE_OK } else { error }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    len: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `from` has `len` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size(len)) };
    let write = Pending::Write(size(at), bytes.to_vec());
    // SAFETY: an open file.
    unsafe { change(file, write, ffi::SQLITE_IOERR_WRITE) }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    unsafe {
        change(
            file,
            Pending::Truncate(size(len)),
            ffi::SQLITE_IOERR_TRUNCATE,
        )
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    let mut state = lock(&open.disk);
    if !state.operate() {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    state.sync(open.file);
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    len: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file, and a place for the answer.
    let (open, len) = unsafe { (opened(file), &mut *len) };
    *len = i64::try_from(lock(&open.disk).files[open.file].content.len()).unwrap_or(i64::MAX);
    ffi::SQLITE_OK
}

/// A disk has one user.
unsafe extern "C" fn lock_file(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_lock(_: *mut ffi::sqlite3_file, locked: *mut c_int) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *locked = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    512
}

unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}

unsafe extern "C" fn delete(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_folder: c_int,
) -> c_int {
    // SAFETY: SQLite's names are C strings.
    let Some((disk, name)) = (unsafe { text(name) }).and_then(find) else {
        return ffi::SQLITE_IOERR_DELETE;
    };
    let mut state = lock(&disk);
    if state.off {
        return ffi::SQLITE_IOERR_DELETE;
    }
    if !state.names.contains_key(name) {
        return ffi::SQLITE_IOERR_DELETE_NOENT;
    }
    // Power that fails here fails between the deletion and the synchronisation of the folder.
    let done = state.operate();
    state.delete(name, done && sync_folder != 0);
    if done {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_IOERR_DELETE
    }
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    there: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's names are C strings; a place for the answer.
    let (found, there) = unsafe { (text(name).and_then(find), &mut *there) };
    let exists = found.is_some_and(|(disk, name)| lock(&disk).names.contains_key(name));
    *there = c_int::from(exists);
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite's names are C strings.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if name.len() > size(len) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has `len` bytes, and `name` is no longer.
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len()) };
    ffi::SQLITE_OK
}

/// Every run is the same: SQLite's randomness is for names and checksums alone.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    // SAFETY: `out` has `len` bytes.
    unsafe { std::ptr::write_bytes(out, 0x5A, size(len)) };
    len
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

/// The Julian day of 1970: no date in the journal comes from SQLite.
unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, day: *mut f64) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *day = 2_440_587.5 };
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock_file),
    xUnlock: Some(lock_file),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Makes the file system known to SQLite, once.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeros are no functions, no names and no numbers.
        let mut vfs: ffi::sqlite3_vfs = unsafe { std::mem::zeroed() };
        vfs.iVersion = 1;
        vfs.szOsFile = c_int::try_from(size_of::<Handle>()).unwrap_or(c_int::MAX);
        vfs.mxPathname = 256;
        vfs.zName = c"chaos".as_ptr();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_path);
        vfs.xRandomness = Some(randomness);
        vfs.xSleep = Some(sleep);
        vfs.xCurrentTime = Some(current_time);
        // SAFETY: the table lives for ever.
        let result = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) };
        assert_eq!(result, ffi::SQLITE_OK, "SQLite takes the file system");
    });
}

#[cfg(test)]
mod tests {
    use crate::disk::{Disk, Loss};
    use rusqlite::Connection;

    fn prepared(disk: &Disk, synchronous: &str) -> Connection {
        let connection = Connection::open(disk.path()).unwrap();
        connection
            .pragma_update(None, "synchronous", synchronous)
            .unwrap();
        connection
            .execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
            .unwrap();
        connection
    }

    fn rows(disk: &Disk) -> rusqlite::Result<i64> {
        Connection::open(disk.path())?.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
    }

    /// What is there after a loss of power right behind a commit.
    fn after_commit(synchronous: &str, loss: Loss) -> rusqlite::Result<i64> {
        let disk = Disk::default();
        let connection = prepared(&disk, synchronous);
        connection.execute("INSERT INTO t VALUES (1)", []).unwrap();
        let again = disk.lose_power(loss);
        drop(connection);
        rows(&again)
    }

    #[test]
    fn a_commit_survives_only_where_file_and_folder_are_synchronised() {
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Torn(1)] {
            assert_eq!(after_commit("EXTRA", loss).unwrap(), 1, "{loss:?}");
        }
        // The rollback journal is there again.
        assert_ne!(after_commit("FULL", Loss::Unsynced).ok(), Some(1));
        assert_ne!(after_commit("OFF", Loss::Unsynced).ok(), Some(1));
        assert_eq!(after_commit("OFF", Loss::Nothing).unwrap(), 1);
    }

    #[test]
    fn power_that_fails_anywhere_leaves_all_or_nothing() {
        let mut failures = 0;
        for operation in 0.. {
            for loss in [Loss::Nothing, Loss::Unsynced, Loss::Torn(operation)] {
                let disk = Disk::default();
                let connection = prepared(&disk, "EXTRA");
                disk.fail_at(disk.operations() + operation);
                let inserted = connection.execute("INSERT INTO t VALUES (1)", []).is_ok();
                if inserted {
                    assert!(failures > 8, "{failures} operations in a commit");
                    return;
                }
                failures += 1;
                let again = disk.lose_power(loss);
                drop(connection);
                assert!(
                    rows(&again).unwrap() <= 1,
                    "operation {operation}, {loss:?}"
                );
            }
        }
    }
}
