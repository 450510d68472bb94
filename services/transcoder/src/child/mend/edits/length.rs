//! The length of a track's media, which `qtdemux` takes for the end of what is shown where no edit states another one.
//!
//! Some writers state for how long pictures are decoded. Those that are coded in another order than they are shown are
//! shown later than they are decoded, and what was shown behind that length was lost: one or two pictures of each file
//! without edits. And where the length is less than half of how much later a picture is shown, all of that is taken for
//! damage, and pictures came out in the order in which they are coded. So the length is stated to reach the end of what is
//! shown last; one that reaches further stays. Pure.

use crate::child::formats::mp4::{self, be32, be64, child};

/// Place in the index of each length that falls short, and the one that does not.
pub(super) fn in_full(index: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let tracks = mp4::children(index).into_iter().filter(|part| part.name == *b"trak");
    tracks.filter_map(|trak| of_track(index, trak.body)).collect()
}

fn of_track(index: &[u8], trak: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mdia = child(trak, b"mdia")?;
    let tables = child(child(mdia, b"minf")?, b"stbl")?;
    let header = child(mdia, b"mdhd")?;
    let wide = *header.first()? == 1;
    let (at, stated) = if wide { (24, be64(header, 24)?) } else { (16, u64::from(be32(header, 16)?)) };
    let end = shown_until(child(tables, b"stts")?, child(tables, b"ctts").unwrap_or_default())?;
    if stated >= end {
        return None;
    }
    let start = (header.as_ptr() as usize).checked_sub(index.as_ptr() as usize)?;
    let new = if wide { end.to_be_bytes().to_vec() } else { u32::try_from(end).ok()?.to_be_bytes().to_vec() };
    Some((start + at, new))
}

/// When what is shown last ends, by the distances at which samples are decoded and by how much later each is shown; times
/// count from the earliest that is shown, where one is shown before it is decoded.
fn shown_until(times: &[u8], shifts: &[u8]) -> Option<u64> {
    let (mut shifts, mut of_shift) = (rows(shifts), (0_u32, 0_i32));
    let (mut decoded, mut end, mut least) = (0_u64, 0_i64, 0_i32);
    for (mut count, distance) in rows(times) {
        // Of samples with one distance and one shift the last ends last.
        while count > 0 {
            if of_shift.0 == 0 {
                of_shift = shifts.next().map_or((u32::MAX, 0), |(count, shift)| (count, shift.cast_signed()));
            }
            let (together, shift) = (count.min(of_shift.0), of_shift.1);
            decoded = decoded.checked_add(u64::from(together).checked_mul(u64::from(distance))?)?;
            if together > 0 {
                end = end.max(i64::try_from(decoded).ok()?.checked_add(i64::from(shift))?);
                least = least.min(shift);
            }
            (count, of_shift.0) = (count - together, of_shift.0 - together);
        }
    }
    u64::try_from(end.checked_sub(i64::from(least))?).ok()
}

/// Rows of two numbers behind version, flags and their number.
fn rows(table: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    let count = be32(table, 4).unwrap_or(0) as usize;
    let rows = table.get(super::ROWS_AT..).unwrap_or_default().chunks_exact(8).take(count);
    rows.filter_map(|row| Some((be32(row, 0)?, be32(row, 4)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&(body.len() as u32 + 8).to_be_bytes()[..], name, &body].concat()
    }

    fn table(rows: &[(u32, i32)]) -> Vec<u8> {
        let numbers = [0, rows.len() as u32].into_iter().chain(rows.iter().flat_map(|(a, b)| [*a, b.cast_unsigned()]));
        numbers.flat_map(u32::to_be_bytes).collect()
    }

    #[test]
    fn what_is_shown_last_ends_behind_all_that_is_decoded() {
        let until = |times: &[(u32, i32)], shifts: &[(u32, i32)]| shown_until(&table(times), &table(shifts));
        assert_eq!(until(&[(3, 10)], &[]), Some(30));
        assert_eq!(until(&[(3, 10), (1, 5)], &[(4, 20)]), Some(55));
        // The second is shown last.
        assert_eq!(until(&[(4, 10)], &[(1, 10), (1, 30), (2, 0)]), Some(50));
        assert_eq!(until(&[(2, 10), (2, 20)], &[(0, 99), (3, 5), (9, -10)]), Some(60), "and ten earlier than decoded");
        assert_eq!(until(&[(4, 10)], &[(1, 10)]), Some(40), "fewer shifts than samples");
        assert_eq!(shown_until(&[0; 3], &[]), Some(0));
        assert_eq!(until(&[(u32::MAX, -1)], &[(u32::MAX, i32::MAX)]), None, "nobody can reckon with it");
    }

    #[test]
    fn a_length_that_falls_short_is_stated_in_full_and_another_stays() {
        let index = |wide: bool, stated: u64| {
            let (head, stated) = match wide {
                true => ([&[1][..], &[0; 23]].concat(), stated.to_be_bytes().to_vec()),
                false => (vec![0; 16], (stated as u32).to_be_bytes().to_vec()),
            };
            let stbl =
                boxed(b"stbl", &[&boxed(b"stts", &[&table(&[(3, 10)])]), &boxed(b"ctts", &[&table(&[(3, 20)])])]);
            let mdia = [boxed(b"mdhd", &[&head, &stated]), boxed(b"minf", &[&stbl])].concat();
            [boxed(b"free", &[]), boxed(b"trak", &[&boxed(b"mdia", &[&mdia])])].concat()
        };
        let at = 8 + 3 * 8;
        assert_eq!(in_full(&index(false, 30)), [(at + 16, 50_u32.to_be_bytes().to_vec())]);
        assert_eq!(in_full(&index(true, 0)), [(at + 24, 50_u64.to_be_bytes().to_vec())]);
        assert_eq!(in_full(&index(false, 50)), []);
        assert_eq!(in_full(&index(false, 90)), []);
    }
}
