//! The element around [`spool_pixels::tone`]: 10-bit I420 of any colour coding in, 8-bit in limited range out.

use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::subclass::prelude::*;
use spool_pixels::tone::{
    BT601_LUMA, BT709_LUMA, BT2020_LUMA, Coding, Out, Rows, SMPTE240_LUMA, Tables, Transfer, convert,
};

glib::wrapper! {
    /// The tone mapping element: I420_10LE in, I420 in limited range out.
    pub struct Tone(ObjectSubclass<imp::Tone>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

impl Tone {
    /// A new element for pictures of that kind, whose output carries the colorimetry `target`.
    pub fn element(from: Transfer, target: &str) -> gst::Element {
        let tone = glib::Object::new::<Self>();
        // A new object's cell is empty, so this cannot be refused.
        let _ = tone.imp().settings.set((from, target.to_owned()));
        tone.upcast()
    }
}

fn luma_of(colour: &gst_video::VideoColorimetry, unknown: (f32, f32)) -> (f32, f32) {
    let known = [
        (gst_video::VideoColorMatrix::Bt709, BT709_LUMA),
        (gst_video::VideoColorMatrix::Bt601, BT601_LUMA),
        (gst_video::VideoColorMatrix::Smpte240m, SMPTE240_LUMA),
        (gst_video::VideoColorMatrix::Bt2020, BT2020_LUMA),
    ];
    known.into_iter().find(|(matrix, _)| *matrix == colour.matrix()).map_or(unknown, |(_, luma)| luma)
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Tone {
        pub(super) settings: OnceLock<(Transfer, String)>,
        tables: Mutex<Option<Arc<Tables>>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Tone {
        const NAME: &'static str = "SpoolTone";
        type Type = super::Tone;
        type ParentType = gst_video::VideoFilter;
    }

    impl ObjectImpl for Tone {}
    impl GstObjectImpl for Tone {}

    impl ElementImpl for Tone {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new("Tone mapping", "Filter/Video", "HLG and PQ to BT.709", "Spool")
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let caps = |format| gst_video::VideoCapsBuilder::new().format(format).build();
                [
                    ("src", gst::PadDirection::Src, caps(gst_video::VideoFormat::I420)),
                    ("sink", gst::PadDirection::Sink, caps(gst_video::VideoFormat::I42010le)),
                ]
                .into_iter()
                .filter_map(|(name, side, caps)| {
                    gst::PadTemplate::new(name, side, gst::PadPresence::Always, &caps).ok()
                })
                .collect()
            });
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for Tone {
        const MODE: BaseTransformMode = BaseTransformMode::NeverInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

        fn transform_caps(
            &self,
            side: gst::PadDirection,
            caps: &gst::Caps,
            filter: Option<&gst::Caps>,
        ) -> Option<gst::Caps> {
            let mut other = caps.clone();
            for structure in other.make_mut().iter_mut() {
                if side == gst::PadDirection::Sink {
                    structure.set("format", gst_video::VideoFormat::I420.to_str());
                    structure.set("colorimetry", self.settings.get().map_or("bt709", |(_, target)| target.as_str()));
                } else {
                    structure.set("format", gst_video::VideoFormat::I42010le.to_str());
                    structure.remove_field("colorimetry");
                }
            }
            Some(filter.map_or(other.clone(), |f| f.intersect_with_mode(&other, gst::CapsIntersectMode::First)))
        }
    }

    impl VideoFilterImpl for Tone {
        fn set_info(
            &self,
            _in_caps: &gst::Caps,
            in_info: &gst_video::VideoInfo,
            _out_caps: &gst::Caps,
            out_info: &gst_video::VideoInfo,
        ) -> Result<(), gst::LoggableError> {
            let colour = in_info.colorimetry();
            let transfer = self.settings.get().map_or(Transfer::Sdr, |(transfer, _)| *transfer);
            let primaries = colour.primaries();
            // HDR that does not state its primaries is in the wide gamut of BT.2100.
            let unstated_hdr = primaries == gst_video::VideoColorPrimaries::Unknown && transfer != Transfer::Sdr;
            let wide = primaries == gst_video::VideoColorPrimaries::Bt2020 || unstated_hdr;
            let coding = Coding {
                transfer,
                full_range: colour.range() == gst_video::VideoColorRange::Range0_255,
                luma: luma_of(&colour, BT2020_LUMA),
                luma_out: luma_of(&out_info.colorimetry(), BT709_LUMA),
                wide_gamut: wide,
            };
            *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Tables::new(coding)));
            Ok(())
        }

        fn transform_frame(
            &self,
            from: &gst_video::VideoFrameRef<&gst::BufferRef>,
            to: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let tables = tables.ok_or(gst::FlowError::NotNegotiated)?;
            let rows = |plane: u32| -> Result<Rows<'_>, gst::FlowError> {
                Ok(Rows {
                    data: from.plane_data(plane).map_err(|_| gst::FlowError::Error)?,
                    stride: from.plane_stride()[plane as usize].unsigned_abs() as usize,
                    width: from.comp_width(plane) as usize,
                })
            };
            let strides: Vec<usize> = to.plane_stride().iter().map(|s| s.unsigned_abs() as usize).collect();
            let [y, u, v, _] = to.planes_data_mut();
            let mut out = Out { y: (y, strides[0]), u: (u, strides[1]), v: (v, strides[2]) };
            convert(&tables, &rows(0)?, &rows(1)?, &rows(2)?, from.height() as usize, &mut out)
                .map(|()| gst::FlowSuccess::Ok)
                .ok_or(gst::FlowError::Error)
        }
    }
}
