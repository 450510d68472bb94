//! Entries: decisions without a log or a store.

use super::*;

const NOW: Timestamp = Timestamp::from_ms(1_000);

fn entry(length: u64, piece_bytes: u64) -> Entry {
    Entry {
        tenant: TenantId::default_tenant(),
        asset: AssetId::from_bits(1),
        door: Door::Upload,
        profile: ProfileRef { name: "standard".to_owned(), version: 1 },
        playback: PlaybackId::from_bits(2),
        text: TextToken::from_bits(3),
        length,
        sha256: None,
        metadata: String::new(),
        file: None,
        claimed: false,
        piece_bytes,
        epoch: 0,
        offset: 0,
        runs: Vec::new(),
        fragments: Vec::new(),
        digest: Running::default().state(),
        created_at: NOW,
        moved_at: NOW,
        phase: Phase::Open,
    }
}

fn upload() -> UploadId {
    UploadId::from_bits(4)
}

#[test]
fn room_ends_at_the_piece_and_at_the_upload() {
    let mut entry = entry(25, 10);
    assert_eq!(entry.room(), 10);
    entry.offset = 4;
    assert_eq!((entry.open_piece(), entry.room()), (0, 6));
    entry.offset = 20;
    assert_eq!((entry.open_piece(), entry.room()), (2, 5));
    entry.offset = 25;
    assert_eq!((entry.is_full(), entry.room()), (true, 0));
}

#[test]
fn pieces_of_one_epoch_are_one_run_and_a_new_epoch_begins_another() {
    let digest = Running::default();
    let one = entry(45, 10).taken().with_piece(10, &digest, NOW).with_piece(10, &digest, NOW);
    let two = one.taken().with_fragment(3, &digest, NOW).taken().with_piece(7, &digest, NOW);
    let three = two.with_piece(10, &digest, NOW).taken().with_piece(5, &digest, NOW);
    assert_eq!(
        three.runs,
        [Run { first: 0, last: 1, epoch: 1 }, Run { first: 2, last: 3, epoch: 3 }, Run { first: 4, last: 4, epoch: 4 }]
    );
    assert!(three.is_full() && three.fragments.is_empty());
    let source = three.source(&upload(), Sha256::of(b""));
    let pieces = spool_proto::key::pieces(&three.tenant, &three.asset, &source);
    assert_eq!(pieces.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [10, 10, 10, 10, 5]);
}

#[test]
fn fragments_are_named_by_their_piece_offset_and_epoch() {
    let digest = Running::default();
    let entry = entry(45, 10).taken().with_piece(10, &digest, NOW).taken().with_fragment(3, &digest, NOW);
    let next = entry.taken();
    assert!(next.next_fragment_key(&upload()).to_string().ends_with("/1-3.3"));
    let next = next.with_fragment(2, &digest, NOW);
    let keys: Vec<_> = next.fragment_keys(&upload()).into_iter().map(|(key, n)| (key.to_string(), n)).collect();
    assert!(keys[0].0.ends_with("/1-0.2") && keys[0].1 == 3, "{keys:?}");
    assert!(keys[1].0.ends_with("/1-3.3") && keys[1].1 == 2, "{keys:?}");
    let merged = next.taken().with_merged(1, &digest, NOW);
    let keys: Vec<_> = merged.fragment_keys(&upload()).into_iter().map(|(key, n)| (key.to_string(), n)).collect();
    assert!(keys.len() == 1 && keys[0].0.ends_with("/1-0.4") && keys[0].1 == 6, "{keys:?}");
}

#[test]
fn closing_fences_the_one_that_writes() {
    let taken = entry(45, 10).taken();
    let closing = taken.closing(Problem::new(spool_proto::Code::UploadExpired));
    assert!(closing.epoch > taken.epoch);
}

#[test]
fn an_entry_of_every_phase_comes_back_from_json() {
    let digest = Running::default();
    let base = entry(45, 10).taken().with_fragment(3, &digest, NOW);
    let file = FileMark { inode: 1, size_bytes: 2, modified_ns: 1_795_240_800_123_456_789 };
    let problem = Problem::new(spool_proto::Code::UploadExpired).with("limit", "1d");
    for entry in [
        base.clone(),
        Entry { file: Some(file), sha256: Some(Sha256::of(b"x")), ..base.clone() },
        base.closing(problem.clone()),
        base.ended(None, NOW),
        base.ended(Some(problem), NOW),
    ] {
        let record = Record::Upload(Box::new(entry));
        let json = serde_json::to_string(&record).expect("json");
        assert_eq!(serde_json::from_str::<Record>(&json).expect("own json"), record);
    }
}

#[test]
fn an_entry_stays_small_with_as_many_fragments_as_there_may_be() {
    let mut entry = entry(u64::MAX, 8 << 20);
    entry.epoch = 1 << 40;
    for length in 0..MAX_FRAGMENTS {
        entry = entry.taken().with_fragment(30_000 + length, &Running::default(), NOW);
    }
    assert_eq!((entry.fragments.len() as u64, entry.fragment_count()), (MAX_FRAGMENTS, MAX_FRAGMENTS));
    let json = serde_json::to_string(&Record::Upload(Box::new(entry))).expect("json");
    assert!(json.len() < 10 << 10, "{}", json.len());
}

#[test]
fn equal_parts_in_a_row_are_one_line_and_keep_their_keys() {
    let mut entry = entry(u64::MAX, 8 << 20);
    for _ in 0..100 {
        entry = entry.taken().with_fragment(1000, &Running::default(), NOW);
    }
    assert_eq!(entry.fragments, [Fragments(1000, 1, 100)]);
    let keys = entry.fragment_keys(&upload());
    assert!(keys.len() == 100 && keys[99].0.to_string().ends_with("/0-99000.100"), "{:?}", keys[99]);
    let entry = entry.taken().taken().with_fragment(1000, &Running::default(), NOW);
    assert_eq!(entry.fragments, [Fragments(1000, 1, 100), Fragments(1000, 102, 1)]);
}
