//! Scaling of one plane of bytes by `fast_image_resize` (Catmull-Rom, anti-aliased when it makes smaller).
//!
//! Every flat area keeps its value exactly, which the tests hold it to.

use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};
use fir::pixels::U8;

/// One plane: rows of `stride` bytes, of which `width` count.
#[derive(Debug)]
pub struct Plane<T> {
    /// The rows.
    pub data: T,
    /// Bytes of a row that count.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next; at least `width`.
    pub stride: usize,
}

/// What scaling keeps between frames: the resizer's coefficients and rows without padding.
#[derive(Debug, Default)]
pub struct Resizer {
    inner: fir::Resizer,
    dense_in: Vec<u8>,
    dense_out: Vec<u8>,
}

/// A plane can't be scaled.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// It has fewer bytes than its size asks for.
    #[error("scale a plane of {width} x {height} with {bytes} bytes")]
    Plane {
        /// Bytes of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes that are there.
        bytes: usize,
    },
    /// The resizer refuses.
    #[error("resize a plane")]
    Resize(#[from] fir::ResizeError),
    /// The plane is no picture to the resizer.
    #[error("view a plane as a picture")]
    Buffer(#[from] fir::ImageBufferError),
}

impl Resizer {
    /// Scales one plane to the size of the other.
    ///
    /// # Errors
    /// When a plane is shorter than its size says.
    pub fn plane(&mut self, from: &Plane<&[u8]>, to: Plane<&mut [u8]>) -> Result<(), ScaleError> {
        let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
        let source = dense(from, &mut self.dense_in)?;
        // Typed, so that only the arithmetic of bytes is compiled, not that of sixteen kinds of pixels.
        let source = TypedImageRef::<U8>::from_buffer(from.width, from.height, source)?;
        let (width, rows) = (to.width as usize, to.height as usize);
        if to.stride == width {
            let bytes = to.data.len();
            let wrong = ScaleError::Plane { width: to.width, height: to.height, bytes };
            let target = to.data.get_mut(..width * rows).ok_or(wrong)?;
            let mut target = TypedImage::<U8>::from_buffer(to.width, to.height, target)?;
            self.inner.resize_typed(&source, &mut target, &options)?;
            return Ok(());
        }
        self.dense_out.resize(width * rows, 0);
        let mut target = TypedImage::<U8>::from_buffer(to.width, to.height, &mut self.dense_out)?;
        self.inner.resize_typed(&source, &mut target, &options)?;
        for (row, out) in self.dense_out.chunks_exact(width).zip(to.data.chunks_mut(to.stride)) {
            out[..width].copy_from_slice(row);
        }
        Ok(())
    }
}

/// The plane's bytes without padding; copied only where there is some.
fn dense<'a>(plane: &Plane<&'a [u8]>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], ScaleError> {
    let (width, rows) = (plane.width as usize, plane.height as usize);
    let wrong = || ScaleError::Plane { width: plane.width, height: plane.height, bytes: plane.data.len() };
    if plane.stride == width {
        return plane.data.get(..width * rows).ok_or_else(wrong);
    }
    scratch.clear();
    for row in 0..rows {
        let start = row * plane.stride;
        scratch.extend_from_slice(plane.data.get(start..start + width).ok_or_else(wrong)?);
    }
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(width: u32, height: u32, data: &[u8], to: (u32, u32)) -> Vec<u8> {
        let mut out = vec![0; (to.0 * to.1) as usize];
        let from = Plane { data, width, height, stride: width as usize };
        let target = Plane { data: &mut out[..], width: to.0, height: to.1, stride: to.0 as usize };
        Resizer::default().plane(&from, target).unwrap();
        out
    }

    #[test]
    fn flat_areas_keep_their_brightness_at_every_ratio_of_the_ladder() {
        for (width, height) in [(3840, 2160), (1920, 1080), (1280, 720), (720, 576), (161, 121)] {
            for level in [16, 181, 235] {
                let flat = vec![level; (width * height) as usize];
                for to in [(1920, 1080), (1280, 720), (960, 540), (640, 360), (426, 240), (256, 144), (160, 120)] {
                    let out = scaled(width, height, &flat, to);
                    assert!(out.iter().all(|&v| v == level), "{width}x{height} to {to:?} at {level}");
                }
            }
        }
    }

    #[test]
    fn padding_of_rows_never_shows() {
        let dense: Vec<u8> = (0..60 * 20).map(|i| (i * 7 % 251) as u8).collect();
        let padded: Vec<u8> = dense.chunks(60).flat_map(|row| [row, &[255; 4]].concat()).collect();
        let mut out = vec![9; 34 * 10];
        let from = Plane { data: &padded[..], width: 60, height: 20, stride: 64 };
        Resizer::default().plane(&from, Plane { data: &mut out, width: 30, height: 10, stride: 34 }).unwrap();
        let expected = scaled(60, 20, &dense, (30, 10));
        let seen: Vec<u8> = out.chunks(34).flat_map(|row| row[..30].to_vec()).collect();
        assert_eq!(seen, expected);
        assert!(out.chunks(34).all(|row| row[30..] == [9; 4]));
    }
}
