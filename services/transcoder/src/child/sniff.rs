//! What a file is by its first bytes: enough to name what was sent by mistake before any demuxer looks at it.

/// Bytes at the head that are looked at.
pub const SNIFF_BYTES: usize = 4096;

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// One picture, or several that are not a video to us (GIF).
    Still(&'static str),
    /// Something that is neither picture nor sound.
    Other(&'static str),
    /// ISO base media or QuickTime: its boxes can be read.
    IsoMedia,
    /// An EBML document.
    Ebml,
    /// Nothing that is known here; the demuxers decide.
    Unknown,
}

/// Offset, bytes there, meaning.
const MAGIC: [(usize, &[u8], Sniffed); 24] = [
    (0, b"\xff\xd8\xff", Sniffed::Still("JPEG")),
    (0, b"\x89PNG\r\n\x1a\n", Sniffed::Still("PNG")),
    (0, b"GIF87a", Sniffed::Still("GIF")),
    (0, b"GIF89a", Sniffed::Still("GIF")),
    (8, b"WEBP", Sniffed::Still("WebP")),
    (0, b"II*\0", Sniffed::Still("TIFF")),
    (0, b"MM\0*", Sniffed::Still("TIFF")),
    (4, b"ftypheic", Sniffed::Still("HEIC")),
    (4, b"ftypheix", Sniffed::Still("HEIC")),
    (4, b"ftypmif1", Sniffed::Still("HEIF")),
    (4, b"ftypavif", Sniffed::Still("AVIF")),
    (0, b"8BPS", Sniffed::Still("Photoshop")),
    (0, b"PK\x03\x04", Sniffed::Other("a ZIP archive (or an office document)")),
    (0, b"PK\x05\x06", Sniffed::Other("an empty ZIP archive")),
    (0, b"%PDF-", Sniffed::Other("a PDF document")),
    (0, b"\x1f\x8b", Sniffed::Other("a gzip archive")),
    (0, b"7z\xbc\xaf\x27\x1c", Sniffed::Other("a 7z archive")),
    (0, b"Rar!\x1a\x07", Sniffed::Other("a RAR archive")),
    (0, b"\x7fELF", Sniffed::Other("a program")),
    (0, b"\xca\xfe\xba\xbe", Sniffed::Other("a program")),
    (0, b"{\\rtf", Sniffed::Other("a text document")),
    (0, b"\xd0\xcf\x11\xe0", Sniffed::Other("an office document")),
    (0, b"SQLite format 3", Sniffed::Other("a database")),
    (0, b"\x1a\x45\xdf\xa3", Sniffed::Ebml),
];

/// Box types that stand first in ISO base media and QuickTime files.
const FIRST_BOXES: [&[u8; 4]; 9] = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"pnot"];

/// Names what starts with `head`.
pub fn sniff(head: &[u8]) -> Sniffed {
    for (at, bytes, meaning) in MAGIC {
        if head.get(at..at + bytes.len()) == Some(bytes) {
            return meaning;
        }
    }
    if head.get(4..8).is_some_and(|name| FIRST_BOXES.iter().any(|first| first.as_slice() == name)) {
        return Sniffed::IsoMedia;
    }
    // "BM" alone is too short to be sure: the size of the header that follows is one of few.
    if head.starts_with(b"BM") && matches!(head.get(14), Some(12 | 40 | 52 | 56 | 64 | 108 | 124)) {
        return Sniffed::Still("BMP");
    }
    if is_text(head) {
        return Sniffed::Other(text_kind(head));
    }
    if is_wide_text(head) {
        return Sniffed::Other("a text file");
    }
    Sniffed::Unknown
}

/// All of it UTF-8 (but for a character cut at the end) without control characters.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(err) if head.len() - err.valid_up_to() < 4 && head.len() >= SNIFF_BYTES => {
            std::str::from_utf8(&head[..err.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}' | '\u{1b}'))
}

/// Text with two bytes a character, as Windows writes it: marked by its first two, with no control characters.
fn is_wide_text(head: &[u8]) -> bool {
    let character: fn([u8; 2]) -> u16 = match head.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        Some(_) | None => return false,
    };
    let units = head.as_chunks().0.iter().map(|pair| character(*pair));
    // A character of two halves may be cut at the end.
    let text: Vec<char> = char::decode_utf16(units).map_while(Result::ok).collect();
    let known = |c: &char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.len() + 1 >= head.len() / 2 && text.len() > 1 && text.iter().all(known)
}

fn text_kind(head: &[u8]) -> &'static str {
    let start: String = String::from_utf8_lossy(head).trim_start().chars().take(512).collect::<String>().to_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        "a web page"
    } else if start.contains("<svg") {
        "an SVG drawing"
    } else if start.starts_with("#extm3u") {
        "a playlist, which names media and holds none"
    } else if start.starts_with("webvtt") || start.contains(" --> ") {
        "a subtitle file"
    } else {
        "a text file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_sent_by_mistake_have_names() {
        for (head, expected) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], Sniffed::Still("JPEG")),
            (b"GIF89a....", Sniffed::Still("GIF")),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Sniffed::Still("WebP")),
            (b"PK\x03\x04....", Sniffed::Other("a ZIP archive (or an office document)")),
            (b"hello there\n", Sniffed::Other("a text file")),
            (b"<!DOCTYPE html><html>", Sniffed::Other("a web page")),
            (b"1\n00:00:01,000 --> 00:00:02,000\nHi\n", Sniffed::Other("a subtitle file")),
            (b"\xff\xfeH\0i\0\n\0", Sniffed::Other("a text file")),
            (b"\xfe\xff\0H\0i\0\n", Sniffed::Other("a text file")),
            (b"\xff\xfe\x01\0\x02\0\0\0", Sniffed::Unknown),
            (b"\0\0\0\x20ftypisom", Sniffed::IsoMedia),
            (b"\0\0\0\x08wide\0\0\0\0mdat", Sniffed::IsoMedia),
            (b"\x1a\x45\xdf\xa3....", Sniffed::Ebml),
            (b"RIFF\x10\0\0\0AVI LIST", Sniffed::Unknown),
            (b"\x47\x40\0\x10", Sniffed::Unknown),
        ] {
            assert_eq!(sniff(head), expected, "{:?}", String::from_utf8_lossy(head));
        }
    }
}
