//! Chains with holes: what is found, and that what is put over it makes a whole chain again.

use super::super::memory::Memory;
use super::*;

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn flv(tags: usize) -> Vec<u8> {
    let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for tag in 0..tags {
        let size = 300 + tag as u32 * 7;
        file.push(if tag % 3 == 0 { 9 } else { 8 });
        file.extend(&size.to_be_bytes()[1..]);
        file.extend([0, 0, tag as u8, 0, 0, 0, 0]);
        file.extend(vec![0xaa; size as usize]);
        file.extend((size + 11).to_be_bytes());
    }
    file
}

fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
    [id, &(body.len() as u32 | 0x1000_0000).to_be_bytes(), body].concat()
}

fn matroska(clusters: usize) -> Vec<u8> {
    let blocks = (0..9).flat_map(|n| element(&[0xa3], &[n; 200])).collect::<Vec<u8>>();
    let cluster = element(&[0x1f, 0x43, 0xb6, 0x75], &[element(&[0xe7], &[1]), blocks].concat());
    let start = element(&[0x1a, 0x45, 0xdf, 0xa3], &element(&[0x42, 0x82], b"webm"));
    [start, vec![0x18, 0x53, 0x80, 0x67, 0xff], element(&[0x15, 0x49, 0xa9, 0x66], &[0; 30]), cluster.repeat(clusters)]
        .concat()
}

fn fragmented(fragments: usize) -> Vec<u8> {
    let boxed = |name: &[u8; 4], body: &[u8]| [&(body.len() as u32 + 8).to_be_bytes()[..], name, body].concat();
    let moof = boxed(b"moof", &[boxed(b"mfhd", &[0; 8]), boxed(b"traf", &boxed(b"tfhd", &[0; 8]))].concat());
    let fragment = [moof, boxed(b"mdat", &[0x55; 900])].concat();
    [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"moov", &[0; 100]), fragment.repeat(fragments)].concat()
}

fn find(file: &[u8], container: Container) -> Vec<Span> {
    let source = Memory(file.to_vec());
    let mut window = Window::new(&source);
    let found = match kind(container).unwrap() {
        Kind::Flv => walk(&mut window, &mut flv::Tags::default()),
        Kind::Matroska => walk(&mut window, &mut matroska::Elements::default()),
        Kind::Fragments => walk(&mut window, &mut fragments::Boxes::default()),
        Kind::Avi => {
            let mut chunks = avi::Chunks::default();
            walk(&mut window, &mut chunks).map(|found| chunks.damage(found))
        }
    };
    found.unwrap()
}

fn patched(file: &[u8], container: Container, spans: &[Span]) -> Vec<u8> {
    let filler = match kind(container).unwrap() {
        Kind::Flv => flv::filler,
        Kind::Matroska => matroska::filler,
        Kind::Fragments => fragments::filler,
        Kind::Avi => avi::filler,
    };
    let mut file = file.to_vec();
    for (at, bytes) in spans.iter().flat_map(|span| filler(*span)) {
        file[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
    }
    file
}

#[test]
fn a_sound_chain_has_no_damage_wherever_it_is_cut_off() {
    for (file, container) in
        [(flv(12), Container::Flv), (matroska(3), Container::Matroska), (fragmented(4), Container::Mp4)]
    {
        for length in 0..file.len() {
            assert_eq!(find(&file[..length], container), [], "{container:?} cut at {length}");
        }
    }
}

#[test]
fn a_hole_is_found_and_a_filler_over_it_makes_the_chain_whole() {
    for (file, container) in
        [(flv(40), Container::Flv), (matroska(6), Container::Matroska), (fragmented(12), Container::Mp4)]
    {
        let sizes = [40, 700, 2_500];
        for (from, size) in sizes.into_iter().flat_map(|size| (300..4_000).step_by(61).map(move |from| (from, size))) {
            for hole in [vec![0; size], noise(size)] {
                let mut bad = file.clone();
                bad[from..from + size].copy_from_slice(&hole);
                let spans = find(&bad, container);
                let end = spans.last().map_or(0, |span| span.offset + span.length);
                assert!(spans.len() <= 2 && end < file.len() as u64, "{container:?} {from}+{size}: {spans:?}");
                let mended = patched(&bad, container, &spans);
                assert_eq!(find(&mended, container), [], "{container:?} {from}+{size}: {spans:?}");
            }
        }
    }
}

#[test]
fn fillers_cover_spans_of_every_size() {
    for length in [17, 18, 130, 0xff_ffff, 0x100_0000, 0x100_0001, 0x100_0010, 0x200_0000] {
        let changes = flv::filler(Span { offset: 5, length });
        let (at, size) = changes.last().unwrap();
        assert_eq!((at + 4, size.len()), (5 + length, 4), "{length}");
    }
    for length in (2..300).chain([(8 << 20) - 1, 8 << 20, (8 << 20) + 1, (8 << 20) + 2, 20 << 20]) {
        let mut at = 5;
        for (place, head) in matroska::filler(Span { offset: 5, length }) {
            assert_eq!(place, at, "{length}");
            let head = crate::child::formats::ebml::Head::of(&head).unwrap();
            at += head.length as u64 + head.body.unwrap();
        }
        assert_eq!(at, 5 + length);
    }
}

#[test]
fn what_fills_up_the_last_block_of_a_track_is_noted_and_of_no_other() {
    let ns = |ns: i32| element(&[0x75, 0xa2], &ns.to_be_bytes());
    let group = |track: u8, after: &[u8]| {
        let block = element(&[0xa1], &[0x80 | track, 0, 0, 0, 1, 2, 3]);
        element(&[0xa0], &[&block, after].concat())
    };
    let simple = |track: u8| element(&[0xa3], &[0x80 | track, 0, 0, 0, 1, 2, 3]);
    let found = |blocks: &[Vec<u8>]| {
        let cluster = element(&[0x1f, 0x43, 0xb6, 0x75], &[element(&[0xe7], &[1]), blocks.concat()].concat());
        let start = element(&[0x1a, 0x45, 0xdf, 0xa3], &element(&[0x42, 0x82], b"webm"));
        let source = Memory([&start[..], &[0x18, 0x53, 0x80, 0x67, 0xff], &cluster].concat());
        let mut elements = matroska::Elements::default();
        assert_eq!(walk(&mut Window::new(&source), &mut elements), Ok(vec![]));
        elements.filled.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(found(&[simple(1), group(2, &ns(13_500_000)), simple(1)]), [(2, 13_500_000)]);
    assert_eq!(found(&[group(2, &[element(&[0x9b], &[20]), ns(7)].concat()), group(3, &ns(9))]), [(2, 7), (3, 9)]);
    assert_eq!(found(&[group(2, &ns(7)), simple(2), group(1, &ns(-7)), group(3, &[])]), []);
    // Numbers of tracks may take two bytes.
    let wide = element(&[0xa0], &[element(&[0xa1], &[0x41, 0x02, 0, 0, 0]), ns(5)].concat());
    assert_eq!(found(&[wide, element(&[0xa0], &[0; 3]), element(&[0xa3], &[])]), [(258, 5)]);
}

#[test]
fn a_ruin_in_which_every_byte_may_lead_far_away_is_not_read_for_ever() {
    struct Counted(Vec<u8>, std::cell::Cell<u64>);
    impl Bytes for Counted {
        fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
            self.1.set(self.1.get() + length as u64);
            Ok(self.0[offset as usize..][..length].to_vec())
        }
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }
    }
    // Chunks by their names, each of which says that it ends a megabyte on, where none begins.
    let list = [&b"RIFF\0\0\0\x7fAVI LIST\0\0\0\x7fmovi"[..], &element(b"00dc", &[0; 16])].concat();
    let chunk = [&b"00dc"[..], &((1_u32 << 20) + 2).to_le_bytes()].concat();
    let source = Counted([list, chunk.repeat(512 << 10)].concat(), std::cell::Cell::default());
    let size = source.size_bytes();
    walk(&mut Window::new(&source), &mut avi::Chunks::default()).unwrap();
    let read = source.1.get();
    assert!(read <= size * READ_OVER + READ_MORE_BYTES, "{read} of {size}");
    assert!(read > size * READ_OVER, "it was no ruin: {read} of {size}");
}
