//! How a container says that its picture stands: turned, mirrored, with pixels that are not square. Read from its own tables.
//!
//! `qtdemux` knows the turns whose matrix holds nothing but 0 and 1, and turns every other one upside down: a film that is
//! shown at half its size, or one of whose matrix a digit is rounded. Of a Matroska's projection its demuxer reads
//! nothing. And most decoders forget what their container says of the pixels' shape.

use std::collections::BTreeMap;

use spool_proto::media::Orientation;

use super::mp4::{be32, child};

/// How the picture of a track stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pose {
    /// How to turn it.
    pub orientation: Orientation,
    /// Width to height of a pixel, where that is stated.
    pub pixel_aspect: Option<(u32, u32)>,
}

/// By the number of the track, which its demuxer puts into the stream's id.
pub type Poses = BTreeMap<u64, Pose>;

/// The part of a matrix that turns, mirrors and stretches: the point (x, y) is shown at (a x + c y, b x + d y).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Matrix {
    a: f64,
    b: f64,
    c: f64,
    d: f64,
}

/// Stretches of less are rounding.
const LEAST_STRETCH: f64 = 0.01;
/// Denominator of a stretch as a pixel's shape.
const STRETCH_UNITS: u32 = 1000;

impl Matrix {
    /// Of a track or movie header (ISO/IEC 14496-12, 8.2.2 and 8.3.2): its numbers have 16 bits behind the point.
    fn of(header: &[u8], at: usize) -> Option<Self> {
        // Times and durations of the second version have 12 bytes more.
        let at = if header.first() == Some(&1) { at + 12 } else { at };
        let number = |place: usize| Some(f64::from(be32(header, at + place * 4)?.cast_signed()) / 65_536.0);
        let matrix = Self { a: number(0)?, b: number(1)?, c: number(3)?, d: number(4)? };
        // One that shows nothing was left empty.
        (matrix.a * matrix.d - matrix.b * matrix.c != 0.0).then_some(matrix)
    }

    /// This one and then the other.
    fn then(self, next: Self) -> Self {
        Self {
            a: self.a * next.a + self.b * next.c,
            b: self.a * next.b + self.b * next.d,
            c: self.c * next.a + self.d * next.c,
            d: self.c * next.b + self.d * next.d,
        }
    }

    /// The nearest of the eight ways in which a picture stands upright on its sides.
    fn orientation(self) -> Orientation {
        let Self { a, b, c, d } = self;
        if a.abs() + d.abs() >= b.abs() + c.abs() {
            match (a < 0.0, d < 0.0) {
                (false, false) => Orientation::Upright,
                (true, true) => Orientation::Rotate180,
                (true, false) => Orientation::FlipRotate0,
                (false, true) => Orientation::FlipRotate180,
            }
        } else {
            match (b < 0.0, c < 0.0) {
                (false, true) => Orientation::Rotate90,
                (true, false) => Orientation::Rotate270,
                (true, true) => Orientation::FlipRotate90,
                (false, false) => Orientation::FlipRotate270,
            }
        }
    }

    /// The shape that it gives to a pixel, where that is none of a square.
    fn stretch(self) -> Option<(u32, u32)> {
        let ratio = self.a.hypot(self.b) / self.c.hypot(self.d);
        ((ratio - 1.0).abs() > LEAST_STRETCH)
            .then(|| ((ratio * f64::from(STRETCH_UNITS)).round().min(f64::from(u32::MAX)) as u32, STRETCH_UNITS))
    }
}

const UNTURNED: Matrix = Matrix { a: 1.0, b: 0.0, c: 0.0, d: 1.0 };

/// Of an MP4's track: its own header's matrix and then the movie's, and what the sample description says of its pixels
/// (`pasp`, 12.1.4). Where it says something, that counts, as with ffmpeg, and not what the matrix does to them.
pub(super) fn of_track(movie: &[u8], track: &[u8], descriptions: &[u8]) -> Pose {
    let own = Matrix::of(track, 40).unwrap_or(UNTURNED);
    let matrix = own.then(Matrix::of(movie, 36).unwrap_or(UNTURNED));
    Pose { orientation: matrix.orientation(), pixel_aspect: stated_aspect(descriptions).or_else(|| matrix.stretch()) }
}

/// Version, flags and number of sample descriptions.
const DESCRIPTIONS_HEAD: usize = 8;
/// Bytes of a picture's sample description before the boxes in it (12.1.3).
const DESCRIPTION_HEAD: usize = 86;

fn stated_aspect(descriptions: &[u8]) -> Option<(u32, u32)> {
    let first = descriptions.get(DESCRIPTIONS_HEAD..)?;
    let length = (be32(first, 0)? as usize).min(first.len());
    let pasp = child(first.get(DESCRIPTION_HEAD..length)?, b"pasp")?;
    let (width, height) = (be32(pasp, 0)?, be32(pasp, 4)?);
    (width > 0 && height > 0).then_some((width, height))
}

/// Of a Matroska's track whose projection states a roll, in degrees against the clock (RFC 9559, 5.1.4.1.28.43.5). The nearest quarter is
/// taken; one that is a mistake is none.
pub(super) fn rolled(degrees: f64) -> Pose {
    // What is no number becomes 0.
    let orientation = match ((degrees / 90.0).round() % 4.0) as i32 {
        1 | -3 => Orientation::Rotate270,
        2 | -2 => Orientation::Rotate180,
        3 | -1 => Orientation::Rotate90,
        _ => Orientation::Upright,
    };
    Pose { orientation, pixel_aspect: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(at: usize, version: u8, [a, b, c, d]: [f64; 4]) -> Vec<u8> {
        let at = if version == 1 { at + 12 } else { at };
        let mut header = vec![0; at + 36];
        header[0] = version;
        for (place, number) in [(0, a), (1, b), (3, c), (4, d)] {
            let fixed = (number * 65_536.0) as i32;
            header[at + place * 4..][..4].copy_from_slice(&fixed.to_be_bytes());
        }
        header
    }

    fn pose(movie: [f64; 4], track: [f64; 4]) -> Pose {
        let first = of_track(&header(36, 0, movie), &header(40, 0, track), &[]);
        assert_eq!(of_track(&header(36, 1, movie), &header(40, 1, track), &[]), first, "the second version");
        first
    }

    const AS_IS: [f64; 4] = [1.0, 0.0, 0.0, 1.0];

    #[test]
    fn a_picture_is_turned_by_its_matrix_whatever_that_does_to_its_size() {
        for (turn, expected) in [
            ([1.0, 0.0, 0.0, 1.0], Orientation::Upright),
            ([0.0, 1.0, -1.0, 0.0], Orientation::Rotate90),
            ([-1.0, 0.0, 0.0, -1.0], Orientation::Rotate180),
            ([0.0, -1.0, 1.0, 0.0], Orientation::Rotate270),
            ([-1.0, 0.0, 0.0, 1.0], Orientation::FlipRotate0),
            ([1.0, 0.0, 0.0, -1.0], Orientation::FlipRotate180),
            ([0.0, -1.0, -1.0, 0.0], Orientation::FlipRotate90),
            ([0.0, 1.0, 1.0, 0.0], Orientation::FlipRotate270),
        ] {
            for by in [0.5, 0.999, 1.0, 2.0] {
                let scaled = turn.map(|n| n * by + if n == 0.0 { 0.0002 } else { 0.0 });
                assert_eq!(pose(AS_IS, scaled), Pose { orientation: expected, pixel_aspect: None }, "{scaled:?}");
                assert_eq!(pose(scaled, AS_IS).orientation, expected, "of the movie: {scaled:?}");
            }
        }
        assert_eq!(pose([0.0, 1.0, -1.0, 0.0], [0.0, 1.0, -1.0, 0.0]).orientation, Orientation::Rotate180);
        assert_eq!(pose([0.0; 4], [0.0; 4]), Pose::default(), "left empty");
        assert_eq!(of_track(&[], &[1, 2, 3], &[0; 9]), Pose::default(), "cut off");
    }

    #[test]
    fn a_matrix_that_stretches_gives_pixels_a_shape_unless_one_is_stated() {
        assert_eq!(pose(AS_IS, [1.0667, 0.0, 0.0, 1.0]).pixel_aspect, Some((1067, 1000)));
        assert_eq!(pose(AS_IS, [0.0, 1.0, -2.0, 0.0]).pixel_aspect, Some((500, 1000)), "before it is turned");
        let mut description = vec![0; DESCRIPTION_HEAD];
        description.extend([&16_u32.to_be_bytes()[..], b"pasp", &[0, 0, 0, 4, 0, 0, 0, 3]].concat());
        let length = description.len() as u32;
        description[..4].copy_from_slice(&length.to_be_bytes());
        let descriptions = [&[0; DESCRIPTIONS_HEAD][..], &description].concat();
        let stated = of_track(&header(36, 0, AS_IS), &header(40, 0, [1.5, 0.0, 0.0, 1.0]), &descriptions);
        assert_eq!(stated.pixel_aspect, Some((4, 3)));
        for end in 0..descriptions.len() {
            assert_eq!(stated_aspect(&descriptions[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn a_roll_turns_against_the_clock_to_the_nearest_quarter() {
        for (degrees, expected) in [
            (0.0, Orientation::Upright),
            (90.0, Orientation::Rotate270),
            (-90.0, Orientation::Rotate90),
            (179.9, Orientation::Rotate180),
            (-180.0, Orientation::Rotate180),
            (270.0, Orientation::Rotate90),
            (360.0, Orientation::Upright),
            (12.0, Orientation::Upright),
            (f64::NAN, Orientation::Upright),
            (f64::INFINITY, Orientation::Upright),
        ] {
            assert_eq!(rolled(degrees).orientation, expected, "{degrees}");
        }
    }
}
