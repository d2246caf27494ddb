//! The journal survives what a crash leaves, and refuses what cannot be.

use super::*;
use serde_json::json;

fn begun() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path(), "flip", "hash").unwrap();
    (folder, journal)
}

#[test]
fn what_was_written_is_read_back() {
    let (folder, mut journal) = begun();
    let permit = journal.start("fence", &json!(false), &json!(true)).unwrap();
    assert!(permit.started("fence") && !permit.started("promotion"));
    drop(journal);
    let journal = Journal::unfinished(folder.path()).unwrap().unwrap();
    assert_eq!(journal.state().steps["fence"], StepState::Started { old: json!(false), new: json!(true) });
    assert!(journal.permit("fence").is_some() && journal.permit("promotion").is_none());
}

#[test]
fn a_torn_last_line_is_as_if_it_had_never_been_written() {
    let (folder, mut journal) = begun();
    journal.start("fence", &json!(false), &json!(true)).unwrap();
    let run = journal.state().run.clone();
    drop(journal);
    let path = folder.path().join("runs").join(format!("{run}.jsonl"));
    let whole = fs::read(&path).unwrap();
    for length in 1..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let Some(mut journal) = Journal::unfinished(folder.path()).unwrap() else { continue };
        let started = journal.permit("fence").is_some();
        assert_eq!(started, length == whole.len());
        journal.keep(Record::Aborting { why: "test".into() }).unwrap();
        drop(journal);
        assert!(Journal::unfinished(folder.path()).unwrap().unwrap().state().aborting.is_some());
    }
}

#[test]
fn half_a_record_for_which_there_was_no_room_is_cut_off_before_the_next() {
    let (folder, mut journal) = begun();
    // What a write leaves that met the end of the disk half-way.
    journal.file.as_mut().unwrap().write_all(b"{\"at\":1.0,\"rec").unwrap();
    journal.torn = true;
    for step in ["tables", "fence"] {
        journal.start(step, &json!(false), &json!(true)).unwrap();
    }
    drop(journal);
    let state = Journal::unfinished(folder.path()).unwrap().unwrap().state().clone();
    assert_eq!(state.started().collect::<Vec<_>>(), ["fence", "tables"]);
    assert_eq!(state.records, 3);
}

#[test]
fn a_disk_that_is_full_leaves_no_half_record_behind() {
    let (folder, mut journal) = begun();
    // A file that takes nothing any more.
    let path = folder.path().join("runs").join(format!("{}.jsonl", journal.state().run));
    let writable = journal.file.replace(File::open(&path).unwrap());
    assert!(journal.start("tables", &json!(false), &json!(true)).is_err());
    assert!(journal.torn && journal.permit("tables").is_none());
    journal.file = writable;
    journal.start("fence", &json!(false), &json!(true)).unwrap();
    drop(journal);
    assert!(Journal::unfinished(folder.path()).unwrap().unwrap().permit("fence").is_some());
}

#[test]
fn what_another_process_writes_proves_nothing_of_what_it_has_not_written() {
    let (_folder, mut journal) = begun();
    journal.start("fence", &json!(false), &json!(true)).unwrap();
    let permit = Journal::of_another(journal.state().clone()).permit("fence").unwrap();
    assert!(permit.started("promotion"));
}

#[test]
fn damage_before_the_end_is_refused() {
    let (folder, mut journal) = begun();
    journal.start("fence", &json!(false), &json!(true)).unwrap();
    let path = folder.path().join("runs").join(format!("{}.jsonl", journal.state().run));
    let damaged = String::from_utf8(fs::read(&path).unwrap()).unwrap().replacen("begun", "bogun", 1);
    fs::write(&path, damaged).unwrap();
    assert!(matches!(Journal::unfinished(folder.path()), Err(Error::Journal(_))));
}

#[test]
fn illegal_transitions_are_refused() {
    let (_folder, mut journal) = begun();
    assert!(journal.keep(Record::Done { step: "fence".into(), fact: json!(1), evidence: json!(null) }).is_err());
    journal.start("fence", &json!(0), &json!(1)).unwrap();
    assert!(journal.start("fence", &json!(0), &json!(1)).is_err());
    assert!(journal.keep(Record::Undone { step: "fence".into(), fact: json!(0) }).is_err());
    journal.keep(Record::Aborting { why: "test".into() }).unwrap();
    assert!(journal.start("promotion", &json!(0), &json!(1)).is_err());
    assert!(journal.keep(Record::Finished { outcome: Outcome::Done }).is_err());
    journal.keep(Record::Finished { outcome: Outcome::Aborted }).unwrap();
    assert!(journal.keep(Record::Aborting { why: "again".into() }).is_err());
}

#[test]
fn what_was_done_starts_once_more_and_before_the_commit_point_only_from_the_value_that_an_abort_restores() {
    let (_folder, mut journal) = begun();
    journal.start("domain", &json!(99), &json!(0)).unwrap();
    journal.keep(Record::Done { step: "domain".into(), fact: json!(0), evidence: json!(null) }).unwrap();
    assert!(journal.start("domain", &json!(7), &json!(0)).is_err());
    assert!(journal.start("domain", &json!(99), &json!(1)).is_err());
    journal.start("domain", &json!(99), &json!(0)).unwrap();
    journal.keep(Record::Done { step: "domain".into(), fact: json!(0), evidence: json!(null) }).unwrap();
    journal.keep(Record::Committed { step: "promotion".into() }).unwrap();
    journal.start("domain", &json!(7), &json!(0)).unwrap();
}

#[test]
fn only_the_owner_reads_it_and_one_run_holds_the_lock() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, journal) = begun();
    let path = folder.path().join("runs").join(format!("{}.jsonl", journal.state().run));
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let held = Lock::take(folder.path(), "migrate.flip").unwrap();
    assert!(
        matches!(Lock::take(folder.path(), "migrate.flip"), Err(Error::HeldByAnother(who)) if who.contains("migrate.flip"))
    );
    assert!(Lock::holder(folder.path()).is_some());
    drop(held);
    assert!(Lock::holder(folder.path()).is_none());
}
