//! Byte ranges and conditions of RFC 9110, for objects that never change. Pure.

use std::ops::Range;

/// What of an object is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// This part.
    Bytes(Range<u64>),
    /// Something outside of it.
    Outside,
}

/// The part that a `Range` header asks for. What is malformed, in another unit or several ranges at once may be passed
/// over (RFC 9110 §14.2): the answer is then the whole.
pub fn part(header: Option<&str>, length: u64) -> Part {
    let Some(set) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Part::Whole };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More digits than fit mean a number beyond any object.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => Part::Whole,
        (Some(first), _) if first >= length && (last.is_empty() || number(last).is_some()) => Part::Outside,
        (Some(first), Some(last)) => Part::Bytes(first..last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => Part::Bytes(first..length),
        (None, Some(0)) if first.is_empty() => Part::Outside,
        (None, Some(_)) if first.is_empty() && length == 0 => Part::Outside,
        (None, Some(suffix)) if first.is_empty() => Part::Bytes(length.saturating_sub(suffix)..length),
        (_, _) => Part::Whole,
    }
}

/// Does an `If-None-Match` header name this entity? The comparison is weak, as RFC 9110 §13.1.2 asks.
pub fn is_known(header: Option<&str>, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.is_some_and(|header| header.trim() == "*" || header.split(',').any(|tag| bare(tag) == bare(etag)))
}

/// May a range be served under this `If-Range` header? Only if it is there not, or names just this entity, strongly. A
/// date never does: objects here have none.
pub fn range_stands(header: Option<&str>, etag: &str) -> bool {
    header.is_none_or(|header| header.trim() == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_rfc_9110_says() {
        for (header, expected) in [
            (None, Part::Whole),
            (Some("bytes=0-0"), Part::Bytes(0..1)),
            (Some("bytes=0-"), Part::Bytes(0..100)),
            (Some("bytes=10-19"), Part::Bytes(10..20)),
            (Some("bytes=90-1000"), Part::Bytes(90..100)),
            (Some("bytes=99-"), Part::Bytes(99..100)),
            (Some("bytes=-10"), Part::Bytes(90..100)),
            (Some("bytes=-1000"), Part::Bytes(0..100)),
            (Some("bytes=5-99999999999999999999999"), Part::Bytes(5..100)),
            (Some("bytes=100-"), Part::Outside),
            (Some("bytes=100-200"), Part::Outside),
            (Some("bytes=99999999999999999999999-"), Part::Outside),
            (Some("bytes=-0"), Part::Outside),
            (Some("bytes=20-10"), Part::Whole),
            (Some("bytes=200-100"), Part::Whole),
            (Some("bytes=0-1,5-6"), Part::Whole),
            (Some("bytes=a-b"), Part::Whole),
            (Some("bytes=-"), Part::Whole),
            (Some("bytes="), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
            (Some("items=0-1"), Part::Whole),
        ] {
            assert_eq!(part(header, 100), expected, "{header:?}");
        }
    }

    #[test]
    fn nothing_of_an_empty_object_can_be_had() {
        assert_eq!(part(Some("bytes=0-"), 0), Part::Outside);
        assert_eq!(part(Some("bytes=-1"), 0), Part::Outside);
        assert_eq!(part(None, 0), Part::Whole);
    }

    #[test]
    fn tags_are_compared_weakly_for_a_cache_and_strongly_for_a_range() {
        for (header, known) in [
            (None, false),
            (Some("\"a\""), true),
            (Some("W/\"a\""), true),
            (Some("\"b\", \"a\""), true),
            (Some("*"), true),
            (Some("\"b\""), false),
        ] {
            assert_eq!(is_known(header, "\"a\""), known, "{header:?}");
        }
        for (header, stands) in [
            (None, true),
            (Some("\"a\""), true),
            (Some("W/\"a\""), false),
            (Some("\"b\""), false),
            (Some("Sat, 21 Nov 2026 06:00:00 GMT"), false),
        ] {
            assert_eq!(range_stands(header, "\"a\""), stands, "{header:?}");
        }
    }
}
