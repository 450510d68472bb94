//! The finished playlists of a generation as files: what players get from `ready` on. Pure.

use spool_kit::hls::{self, Entry, Growth, Listing, rates};
use spool_proto::asset::Generation;

/// The files of revision `revision`, which plays generation `number`: the multivariant playlist first, then one for each
/// rendition, named as the plan names it. Nothing while a planned receipt is missing.
pub fn manifests(revision: u32, number: u32, generation: &Generation) -> Option<Vec<(String, String)>> {
    let plan = generation.plan();
    let names = plan.rungs.iter().map(|rung| &rung.id).chain(plan.audio.iter().map(|audio| &audio.id));
    let mut lists = Vec::new();
    for name in names {
        let receipts = rates::receipts(generation, name)?;
        let of = |(chunk, receipt)| hls::entries_of(number, chunk, receipt);
        let entries: Vec<Entry> = (0..).zip(receipts.iter().copied()).flat_map(of).collect();
        lists.push((name, hls::map_of(number, receipts.first()?), entries));
    }
    // Apple asks for one target duration over all renditions.
    let target_s = hls::measured_target_s(plan, lists.iter().flat_map(|(_, _, entries)| entries));
    let master = rates::measured(revision, generation, target_s)?;
    let mut files = vec![(hls::INDEX.to_owned(), hls::multivariant(&master))];
    files.extend(lists.into_iter().map(|(name, map, entries)| {
        let listing = Listing { growth: Growth::Finished, target_s, map, entries };
        (hls::playlist_file(name), hls::media_playlist(&listing))
    }));
    Some(files)
}

#[cfg(test)]
mod tests {
    use spool_kit::hls::check;
    use spool_proto::media::Plan;
    use spool_proto::testing::Given;
    use spool_proto::testing::values::plan;

    use super::*;

    fn files(plan: Plan) -> Vec<(String, String)> {
        let asset = Given::planned(plan).all_stored(1).fold();
        manifests(3, 1, asset.generation().expect("planned")).expect("complete")
    }

    #[test]
    fn a_revision_has_an_index_and_a_list_for_each_rendition() {
        let files = files(plan(&[1, 2], 10_000));
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["index.m3u8", "v720.m3u8", "v360.m3u8", "a0.m3u8"]);
        assert_eq!(check::multivariant(&files[0].1), Vec::<String>::new());
        for (name, text) in &files[1..] {
            assert_eq!(check::media(text), Vec::<String>::new(), "{name}");
            assert!(files[0].1.contains(&format!("r3/{name}")), "{name} is in no index");
        }
    }

    #[test]
    fn a_list_says_exactly_what_the_receipts_say() {
        let files = files(Plan { audio: None, stills: vec![], ..plan(&[1, 2], 10_000) });
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-PLAYLIST-TYPE:VOD\n\
            #EXT-X-MAP:URI=\"../g1/v360/0.mp4\",BYTERANGE=\"800@0\"\n\
            #EXTINF:4.000000,\n#EXT-X-BYTERANGE:200000@800\n../g1/v360/0.mp4\n\
            #EXTINF:4.000000,\n#EXT-X-BYTERANGE:200000@800\n../g1/v360/1.mp4\n\
            #EXTINF:2.000000,\n#EXT-X-BYTERANGE:100000@200800\n../g1/v360/1.mp4\n#EXT-X-ENDLIST\n";
        assert_eq!(files[2].1, expected);
    }

    #[test]
    fn sound_alone_and_picture_alone_are_whole_assets() {
        let sound = files(Plan { video: None, rungs: vec![], stills: vec![], ..plan(&[1, 1], 8_000) });
        assert_eq!(sound.len(), 2);
        let picture = files(Plan { audio: None, ..plan(&[1, 1], 8_000) });
        assert_eq!(picture.len(), 3);
        for files in [sound, picture] {
            assert_eq!(check::multivariant(&files[0].1), Vec::<String>::new());
        }
    }

    #[test]
    fn nothing_is_written_while_a_chunk_is_missing() {
        let asset = Given::planned(plan(&[1, 2], 10_000)).chunk(1, 0).fold();
        assert!(manifests(1, 1, asset.generation().expect("planned")).is_none());
    }
}
