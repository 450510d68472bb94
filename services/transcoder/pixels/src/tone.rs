//! High dynamic range (HLG, PQ) and wide gamut to BT.709 standard range, because GStreamer 1.22 has no tone mapping.
//!
//! The whole way from a 10-bit code triple to an 8-bit one is worked out once in floating point for the nodes of a grid
//! and interpolated per pixel, so a frame costs table look-ups. Mid tones keep their brightness (BT.2408: a grey card of
//! 26 cd/m² is 42 % signal in both worlds), diffuse white (203 cd/m²) comes out near 90 %, and what lies above is rolled
//! off up to 1000 cd/m². Metadata of single scenes is not read: the same code always gives the same colour.

/// How code values become light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// Standard dynamic range: light stays as it is.
    Sdr,
    /// Hybrid log gamma.
    Hlg,
    /// Perceptual quantiser.
    Pq,
}

/// How the source's code values are meant, beside the transfer function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coding {
    /// How code values become light.
    pub transfer: Transfer,
    /// Do they use all codes, or those from 64 to 940 (of 10 bits)?
    pub full_range: bool,
    /// Weights of red and blue in luma.
    pub luma: (f32, f32),
    /// The same of the output.
    pub luma_out: (f32, f32),
    /// Are its primaries those of BT.2020?
    pub wide_gamut: bool,
}

/// Weights of red and blue in the luma of BT.2020.
pub const BT2020_LUMA: (f32, f32) = (0.2627, 0.0593);
/// … of BT.709.
pub const BT709_LUMA: (f32, f32) = (0.2126, 0.0722);
/// … of BT.601.
pub const BT601_LUMA: (f32, f32) = (0.299, 0.114);
/// … of SMPTE 240M.
pub const SMPTE240_LUMA: (f32, f32) = (0.212, 0.087);
/// Diffuse white of HDR in cd/m² (BT.2408), and the light that the curve brings down to SDR white.
const DIFFUSE_WHITE: f32 = 203.0;
const PEAK: f32 = 1000.0 / DIFFUSE_WHITE;
/// Below this share of diffuse white light is kept as it is.
const KNEE: f32 = 0.5;
/// Display gamma of BT.1886.
const GAMMA: f32 = 2.4;

const LUMA_NODES: usize = 65;
const CHROMA_NODES: usize = 33;
/// Table values are code values times this.
const FRACTION: f32 = 64.0;
/// Rounding of four neighbouring pixels, in 1/64: an ordered dither, so that a 10-bit gradient does not turn into steps.
const DITHER: [i32; 4] = [8, 40, 56, 24];

/// One output component over the grid; luma runs fastest.
type Table = Vec<[i16; LUMA_NODES]>;

/// The whole way from one code triple to the other, worked out for the nodes of a grid.
#[derive(Debug)]
pub struct Tables {
    y: Table,
    u: Table,
    v: Table,
}

impl Tables {
    /// Works them out: some hundred thousand powers, once a stream.
    pub fn new(coding: Coding) -> Self {
        let nodes = CHROMA_NODES * CHROMA_NODES;
        let empty = || vec![[0i16; LUMA_NODES]; nodes];
        let mut tables = Self { y: empty(), u: empty(), v: empty() };
        for node in 0..nodes {
            let (u, v) = ((node % CHROMA_NODES * 32) as f32, (node / CHROMA_NODES * 32) as f32);
            for luma in 0..LUMA_NODES {
                let [y, u, v] = coding.convert([(luma * 16) as f32, u, v]);
                tables.y[node][luma] = (y * FRACTION).round() as i16;
                tables.u[node][luma] = (u * FRACTION).round() as i16;
                tables.v[node][luma] = (v * FRACTION).round() as i16;
            }
        }
        tables
    }
}

impl Coding {
    /// One 10-bit code triple as an 8-bit one of BT.709 in limited range, unrounded.
    fn convert(self, [y, u, v]: [f32; 3]) -> [f32; 3] {
        let (y, cb, cr) = if self.full_range {
            (y / 1023.0, (u - 512.0) / 1023.0, (v - 512.0) / 1023.0)
        } else {
            ((y - 64.0) / 876.0, (u - 512.0) / 896.0, (v - 512.0) / 896.0)
        };
        let (kr, kb) = self.luma;
        let red = y + 2.0 * (1.0 - kr) * cr;
        let blue = y + 2.0 * (1.0 - kb) * cb;
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        let [red, green, blue] = if self.transfer == Transfer::Sdr && !self.wide_gamut {
            [red, green, blue]
        } else {
            self.shown([red, green, blue].map(|c| c.clamp(0.0, 1.0)))
        };
        let (kr, kb) = self.luma_out;
        let y = kr * red + (1.0 - kr - kb) * green + kb * blue;
        let cb = (blue - y) / (2.0 * (1.0 - kb));
        let cr = (red - y) / (2.0 * (1.0 - kr));
        [16.0 + 219.0 * y, 128.0 + 224.0 * cb, 128.0 + 224.0 * cr].map(|c| c.clamp(0.0, 255.0))
    }

    /// The SDR signal that shows a signal of the source.
    fn shown(self, signal: [f32; 3]) -> [f32; 3] {
        let light = self.light(signal);
        let light = if self.wide_gamut { to_bt709_primaries(light) } else { light };
        let shown = match self.transfer {
            Transfer::Sdr => light.map(|c| c.clamp(0.0, 1.0)),
            Transfer::Hlg | Transfer::Pq => rolled_off(light.map(|c| c.max(0.0))),
        };
        shown.map(|c| c.powf(1.0 / GAMMA))
    }

    /// Light of the display in multiples of diffuse white.
    fn light(self, signal: [f32; 3]) -> [f32; 3] {
        match self.transfer {
            Transfer::Sdr => signal.map(|c| c.powf(GAMMA)),
            Transfer::Pq => signal.map(|c| pq_light(c) / DIFFUSE_WHITE),
            Transfer::Hlg => {
                let scene = signal.map(hlg_scene);
                let luminance = BT2020_LUMA.0 * scene[0]
                    + (1.0 - BT2020_LUMA.0 - BT2020_LUMA.1) * scene[1]
                    + BT2020_LUMA.1 * scene[2];
                // BT.2100: system gamma 1.2 at 1000 cd/m².
                let gain = PEAK * luminance.powf(0.2);
                scene.map(|c| gain * c)
            }
        }
    }
}

/// BT.2100, inverse OETF of HLG: scene light 0..1.
fn hlg_scene(signal: f32) -> f32 {
    const A: f32 = 0.178_832_77;
    const B: f32 = 0.284_668_92;
    const C: f32 = 0.559_910_7;
    if signal <= 0.5 { signal * signal / 3.0 } else { (((signal - C) / A).exp() + B) / 12.0 }
}

/// ST 2084: light in cd/m².
fn pq_light(signal: f32) -> f32 {
    const M1: f32 = 0.159_301_76;
    const M2: f32 = 78.84375;
    const C1: f32 = 0.835_937_5;
    const C2: f32 = 18.851_562;
    const C3: f32 = 18.6875;
    let power = signal.powf(1.0 / M2);
    10_000.0 * ((power - C1).max(0.0) / (C2 - C3 * power)).powf(1.0 / M1)
}

fn to_bt709_primaries([r, g, b]: [f32; 3]) -> [f32; 3] {
    [
        1.660_491 * r - 0.587_641 * g - 0.072_85 * b,
        -0.124_55 * r + 1.132_9 * g - 0.008_349 * b,
        -0.018_151 * r - 0.100_579 * g + 1.118_73 * b,
    ]
}

/// Identity up to the knee, then a curve without corner that reaches 1 at the peak.
fn roll_off(light: f32) -> f32 {
    if light <= KNEE {
        return light;
    }
    let slope = (PEAK - KNEE) / (1.0 - KNEE);
    let over = ((light - KNEE) / (PEAK - KNEE)).min(1.0);
    KNEE + (1.0 - KNEE) * slope * over / (1.0 + (slope - 1.0) * over)
}

/// Half by the strongest component, which keeps the hue, half by each component, which lets bright colours fade to
/// white as film and eye do.
fn rolled_off(light: [f32; 3]) -> [f32; 3] {
    let strongest = light.iter().copied().fold(0.0, f32::max);
    if strongest <= KNEE {
        return light;
    }
    let gain = roll_off(strongest) / strongest;
    light.map(|c| (0.5 * (gain * c + roll_off(c))).clamp(0.0, 1.0))
}

/// The four grid columns around one chroma pair and their weights, which add up to 1024.
struct Corners<'a> {
    columns: [&'a [i16; LUMA_NODES]; 4],
    weights: [i32; 4],
}

/// Position of a chroma pair in the grid.
#[derive(Clone, Copy)]
struct Place {
    node: usize,
    weights: [i32; 4],
}

fn place(u: u16, v: u16) -> Place {
    let (u, v) = (usize::from(u & 1023), usize::from(v & 1023));
    let (fu, fv) = ((u % 32) as i32, (v % 32) as i32);
    let node = (v / 32) * CHROMA_NODES + u / 32;
    Place { node, weights: [(32 - fu) * (32 - fv), fu * (32 - fv), (32 - fu) * fv, fu * fv] }
}

fn corners(table: &Table, place: Place) -> Corners<'_> {
    let at = |i: usize| &table[place.node + i];
    Corners { columns: [at(0), at(1), at(CHROMA_NODES), at(CHROMA_NODES + 1)], weights: place.weights }
}

impl Corners<'_> {
    /// The value at a luma code; `rounding` in 1/64 of a code value.
    #[inline(always)]
    fn at(&self, luma: u16, rounding: i32) -> u8 {
        let (node, part) = (usize::from(luma / 16) & 63, i32::from(luma % 16));
        let mut low = 0;
        let mut high = 0;
        for (column, weight) in self.columns.iter().zip(self.weights) {
            low += i32::from(column[node]) * weight;
            high += i32::from(column[node + 1]) * weight;
        }
        // The weights bring 10 bits, the position in luma 4, the table 6. Range: 16·1024·64·255 fits 31 bits.
        let value = (low * (16 - part) + high * part) >> 14;
        ((value + rounding) >> 6).clamp(0, 255) as u8
    }
}

/// Rows of one component; 10-bit samples are two bytes, little endian.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The rows.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Samples of a row.
    pub width: usize,
}

impl Rows<'_> {
    fn read(&self, row: usize, into: &mut Vec<u16>) -> Option<()> {
        let start = row * self.stride;
        let bytes = self.data.get(start..start + self.width * 2)?;
        into.clear();
        into.extend(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]) & 1023));
        Some(())
    }
}

/// The output planes of one frame, each with the bytes from one row to the next.
#[derive(Debug)]
pub struct Out<'a> {
    /// Luma.
    pub y: (&'a mut [u8], usize),
    /// Blue difference.
    pub u: (&'a mut [u8], usize),
    /// Red difference.
    pub v: (&'a mut [u8], usize),
}

/// Converts one frame; `None` where a plane is shorter than its caps say.
pub fn convert(
    tables: &Tables,
    y: &Rows<'_>,
    u: &Rows<'_>,
    v: &Rows<'_>,
    height: usize,
    out: &mut Out<'_>,
) -> Option<()> {
    let (mut top, mut bottom, mut us, mut vs) = (vec![], vec![], vec![], vec![]);
    for row in 0..height.div_ceil(2) {
        u.read(row, &mut us)?;
        v.read(row, &mut vs)?;
        y.read(row * 2, &mut top)?;
        let second = (row * 2 + 1).min(height - 1);
        y.read(second, &mut bottom)?;
        let out_u = out.u.0.get_mut(row * out.u.1..)?.get_mut(..u.width)?;
        let out_v = out.v.0.get_mut(row * out.v.1..)?.get_mut(..v.width)?;
        let (first_rows, second_rows) = out.y.0.split_at_mut_checked(second * out.y.1)?;
        let out_bottom = second_rows.get_mut(..y.width)?;
        let out_top = first_rows.get_mut(row * 2 * out.y.1..);
        let mut out_top = out_top.and_then(|rows| rows.get_mut(..y.width)).filter(|_| second != row * 2);
        for (x, (&cu, &cv)) in us.iter().zip(&vs).enumerate() {
            let place = place(cu, cv);
            let luma = corners(&tables.y, place);
            let (left, right) = (x * 2, (x * 2 + 1).min(y.width - 1));
            let (a, b, c, d) = (top[left], top[right], bottom[left], bottom[right]);
            out_bottom[left] = luma.at(c, DITHER[2]);
            out_bottom[right] = luma.at(d, DITHER[3]);
            if let Some(out_top) = &mut out_top {
                out_top[left] = luma.at(a, DITHER[0]);
                out_top[right] = luma.at(b, DITHER[1]);
            }
            let mean = (a + b + c + d + 2) / 4;
            out_u[x] = corners(&tables.u, place).at(mean, 32);
            out_v[x] = corners(&tables.v, place).at(mean, 32);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(transfer: Transfer) -> Coding {
        Coding { transfer, full_range: false, luma: BT2020_LUMA, luma_out: BT709_LUMA, wide_gamut: true }
    }

    /// Luma of a grey of that signal, as a share of SDR signal.
    fn grey(transfer: Transfer, signal: f32) -> f32 {
        let [y, u, v] = coding(transfer).convert([64.0 + 876.0 * signal, 512.0, 512.0]);
        assert!((u - 128.0).abs() < 0.2 && (v - 128.0).abs() < 0.2, "grey stays grey: {u} {v}");
        (y - 16.0) / 219.0
    }

    #[test]
    fn mid_tones_keep_their_brightness_and_highlights_roll_off() {
        // Signals of BT.2408: grey card 38 % HLG and PQ, diffuse white 75 % HLG and 58 % PQ.
        for (transfer, card, white) in [(Transfer::Hlg, 0.38, 0.75), (Transfer::Pq, 0.38, 0.58)] {
            let (card, white, peak) = (grey(transfer, card), grey(transfer, white), grey(transfer, 1.0));
            assert!((0.39..0.46).contains(&card), "grey card of {transfer:?} at {card}");
            assert!((0.85..0.93).contains(&white), "diffuse white of {transfer:?} at {white}");
            assert!(peak > 0.99, "peak of {transfer:?} at {peak}");
            assert!(grey(transfer, 0.0).abs() < 0.01);
        }
        assert!((grey(Transfer::Sdr, 0.6) - 0.6).abs() < 0.01, "standard range is left alone");
    }

    #[test]
    fn brighter_in_is_never_darker_out() {
        for transfer in [Transfer::Hlg, Transfer::Pq, Transfer::Sdr] {
            let ramp: Vec<f32> = (0..=100).map(|i| grey(transfer, i as f32 / 100.0)).collect();
            assert!(ramp.windows(2).all(|w| w[1] >= w[0] - 1e-4), "{transfer:?}: {ramp:?}");
        }
    }

    #[test]
    fn full_range_becomes_limited_and_nothing_else_changes() {
        let luma = BT601_LUMA;
        let coding = Coding { transfer: Transfer::Sdr, full_range: true, luma, luma_out: luma, wide_gamut: false };
        let tables = Tables::new(coding);
        for (code, y, c) in
            [([0, 512, 512], 16.0, 128.0), ([1020, 512, 512], 235.0, 128.0), ([512, 900, 512], 126.0, 213.0)]
        {
            let seen = [&tables.y, &tables.u].map(|t| f32::from(corners(t, place(code[1], code[2])).at(code[0], 32)));
            assert!((seen[0] - y).abs() <= 1.0 && (seen[1] - c).abs() <= 1.0, "{code:?}: {seen:?}");
        }
    }

    #[test]
    fn the_tables_give_what_the_formula_gives_within_two_code_values() {
        let coding = coding(Transfer::Hlg);
        let tables = Tables::new(coding);
        for (y, u, v) in [(64, 512, 512), (411, 500, 540), (722, 470, 560), (721, 530, 490), (940, 512, 512)] {
            let place = place(u, v);
            let seen = [&tables.y, &tables.u, &tables.v].map(|t| f32::from(corners(t, place).at(y, 32)));
            let exact = coding.convert([f32::from(y), f32::from(u), f32::from(v)]);
            for (seen, exact) in seen.iter().zip(exact) {
                assert!((seen - exact).abs() <= 2.0, "{y} {u} {v}: {seen} for {exact}");
            }
        }
    }
}
