use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use super::*;

/// Longer than any condition of a test takes.
const LONG: Duration = Duration::from_mins(1);

fn opened(files: &TurnFiles) -> Turns {
    Turns::with_budget(&files.locks(), LONG).unwrap()
}

/// Waits until `condition` holds.
fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LONG);
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Opens turns with an empty wait budget.
fn impatient(files: &TurnFiles) -> Turns {
    Turns::with_budget(&files.locks(), Duration::ZERO).unwrap()
}

#[test]
fn there_are_as_many_places_as_models_fit_the_cpus() {
    let places = [(4, 2), (2, 2), (1, 2), (4, 16)].map(|(n_threads, cpus)| {
        let files = TurnFiles::create(n_threads, cpus).unwrap();
        files.locks().places.len()
    });
    assert_eq!(places, [1, 1, 2, 4]);
}

#[test]
fn removed_lock_files_are_created_again_for_the_next_worker() {
    let files = TurnFiles::on_disk(2).unwrap();
    std::fs::remove_file(files.locks().queue).unwrap();
    let turns = opened(&files);
    assert!(turns.acquire(|| {}).unwrap().place.is_some());
}

#[test]
fn a_waiting_worker_comes_before_one_that_has_just_had_a_turn() {
    let files = TurnFiles::create(1, 1).unwrap();
    let (busy, other) = (opened(&files), opened(&files));
    let mine = busy.acquire(|| {}).unwrap();
    let (took, order) = channel();
    thread::scope(|scope| {
        let other_took = took.clone();
        let other = &other;
        scope.spawn(move || {
            let turn = other.acquire(|| {}).unwrap();
            assert!(turn.place.is_some());
            other_took.send("other").unwrap();
            drop(turn);
        });
        // The other one waits as soon as its request holds the queue.
        wait_until(|| other.waiter.is_awaited() && !is_free(&busy.locks.queue));
        drop(mine);
        let again = busy.acquire(|| {}).unwrap();
        assert!(again.place.is_some());
        took.send("busy").unwrap();
        drop(again);
    });
    assert_eq!(order.try_iter().collect::<Vec<_>>(), ["other", "busy"]);
}

#[test]
fn a_turn_that_is_never_released_stops_no_worker() {
    let files = TurnFiles::create(1, 1).unwrap();
    let (hostile, honest) = (opened(&files), impatient(&files));
    let held = hostile.acquire(|| {}).unwrap();
    assert!(held.place.is_some());
    for _ in 0..3 {
        assert_eq!(honest.acquire(|| {}).unwrap().place, None);
    }
    assert!(honest.waiter.is_waiting());
    // Once it is released there are turns again, and the abandoned request keeps none.
    drop(held);
    wait_until(|| !honest.waiter.is_waiting());
    assert!(honest.acquire(|| {}).unwrap().place.is_some());
    assert!(hostile.acquire(|| {}).unwrap().place.is_some());
}

#[test]
fn a_queue_that_is_never_released_stops_no_worker() {
    let files = TurnFiles::create(1, 2).unwrap();
    let (hostile, honest) = (opened(&files), impatient(&files));
    hostile.locks.queue.lock().unwrap();
    assert_eq!(honest.acquire(|| {}).unwrap().place, None);
    drop(hostile);
    wait_until(|| !honest.waiter.is_waiting());
    assert!(honest.acquire(|| {}).unwrap().place.is_some());
}

#[test]
#[cfg(target_os = "linux")]
fn on_linux_lock_files_have_no_names_and_cannot_be_written_to() {
    use std::io::Write;
    let files = TurnFiles::create(1, 1).unwrap();
    let CpuLocks { queue, places } = files.locks();
    assert!(queue.starts_with("/proc") && places[0].starts_with("/proc"));
    let mut writable = File::options().write(true).open(&queue).unwrap();
    assert!(writable.write_all(b"x").is_err());
    // The number of a lock file's descriptor may now belong to another file.
    let other = File::open("Cargo.toml").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&other);
    let path = format!("/proc/{}/fd/{number}", std::process::id());
    let error = files::open(path.as_ref()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
#[cfg(unix)]
fn lock_files_on_disk_are_private_and_removed() {
    use std::os::unix::fs::MetadataExt;
    let files = TurnFiles::on_disk(2).unwrap();
    let path = files.locks().queue;
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert!(opened(&files).acquire(|| {}).unwrap().place.is_some());
    drop(files);
    assert!(!path.exists());
}

fn is_free(queue: &File) -> bool {
    let is_free = queue.try_lock().is_ok();
    if is_free {
        queue.unlock().unwrap();
    }
    is_free
}
