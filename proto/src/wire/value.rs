//! How single values cross the wire, and the two macros that make messages and enums of them.

use super::DecodeError;
use crate::event::Problem;
use crate::id::{AttemptId, IdError, PlaybackId, Sha256, TextToken, UploadId};
use crate::media::FrameRate;
use crate::problem::Code;
use crate::wire::pb;

/// Where a value stands: message and field, for errors.
pub(super) type Place = (&'static str, &'static str);

/// Why a value can't be read.
#[derive(Debug)]
pub(super) enum Bad {
    /// It is well formed, but of a later version.
    Later {
        /// Message type.
        what: &'static str,
        /// Field name.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// It is wrong.
    Wrong(DecodeError),
}

impl Bad {
    pub(super) fn wrong((what, field): Place, reason: impl ToString) -> Self {
        Bad::Wrong(DecodeError::Field { what, field, reason: reason.to_string() })
    }

    pub(super) fn missing(place: Place) -> Self {
        Bad::wrong(place, "is missing")
    }

    pub(super) fn later((what, field): Place, value: impl ToString) -> Self {
        Bad::Later { what, field, value: value.to_string() }
    }
}

/// A value that is `W` in the generated code. Whatever [`Wire::write`] gives, [`Wire::read`] takes and gives the same back.
pub(super) trait Wire<W>: Sized {
    fn write(&self) -> W;
    fn read(wire: W, place: Place) -> Result<Self, Bad>;
}

macro_rules! as_it_is {
    ($($type:ty)*) => { $(
        impl Wire<$type> for $type {
            fn write(&self) -> $type {
                self.clone()
            }
            fn read(wire: $type, _: Place) -> Result<Self, Bad> {
                Ok(wire)
            }
        }
    )* };
}
as_it_is!(u32 u64 bool String);

macro_rules! as_text {
    ($($id:ty)*) => { $(
        impl Wire<String> for $id {
            fn write(&self) -> String {
                self.to_string()
            }
            fn read(wire: String, place: Place) -> Result<Self, Bad> {
                wire.parse().map_err(|e: IdError| Bad::wrong(place, format!("is no id: {e}")))
            }
        }
    )* };
}
as_text!(UploadId PlaybackId TextToken AttemptId);

impl<W, T: Wire<W>> Wire<Vec<W>> for Vec<T> {
    fn write(&self) -> Vec<W> {
        self.iter().map(Wire::write).collect()
    }
    fn read(wire: Vec<W>, place: Place) -> Result<Self, Bad> {
        wire.into_iter().map(|one| T::read(one, place)).collect()
    }
}

impl<W, T: Wire<W>> Wire<Option<W>> for Option<T> {
    fn write(&self) -> Option<W> {
        self.as_ref().map(Wire::write)
    }
    fn read(wire: Option<W>, place: Place) -> Result<Self, Bad> {
        wire.map(|one| T::read(one, place)).transpose()
    }
}

impl Wire<Vec<u8>> for Sha256 {
    fn write(&self) -> Vec<u8> {
        self.0.to_vec()
    }
    fn read(wire: Vec<u8>, place: Place) -> Result<Self, Bad> {
        let wrong = |bytes: Vec<u8>| Bad::wrong(place, format!("has {} bytes, not the 32 of a SHA-256", bytes.len()));
        wire.try_into().map(Sha256).map_err(wrong)
    }
}

impl Wire<Option<pb::Fraction>> for (u32, u32) {
    fn write(&self) -> Option<pb::Fraction> {
        Some(pb::Fraction { num: self.0, den: self.1 })
    }
    fn read(wire: Option<pb::Fraction>, place: Place) -> Result<Self, Bad> {
        wire.map(|it| (it.num, it.den)).ok_or_else(|| Bad::missing(place))
    }
}

impl Wire<Option<pb::Fraction>> for FrameRate {
    fn write(&self) -> Option<pb::Fraction> {
        (self.num, self.den).write()
    }
    fn read(wire: Option<pb::Fraction>, place: Place) -> Result<Self, Bad> {
        let (num, den) = Wire::read(wire, place)?;
        Ok(Self { num, den })
    }
}

impl Wire<String> for Code {
    fn write(&self) -> String {
        self.name().to_owned()
    }
    fn read(wire: String, place: Place) -> Result<Self, Bad> {
        if wire.is_empty() {
            return Err(Bad::missing(place));
        }
        wire.parse().map_err(|_| Bad::later(place, wire))
    }
}

impl Wire<Option<pb::Problem>> for Problem {
    fn write(&self) -> Option<pb::Problem> {
        // A map would have no order of its own; a list sorted by name always gives the same bytes.
        let params = self.params.iter().map(|(name, value)| pb::Param { name: name.clone(), value: value.clone() });
        Some(pb::Problem { code: self.code.write(), params: params.collect() })
    }
    fn read(wire: Option<pb::Problem>, place: Place) -> Result<Self, Bad> {
        let pb::Problem { code, params } = wire.ok_or_else(|| Bad::missing(place))?;
        let params = params.into_iter().map(|param| (param.name, param.value)).collect();
        Ok(Self { code: Code::read(code, ("Problem", "code"))?, params })
    }
}

/// A struct that has the same fields on both sides. Every field is named, so one that is added on either side stops the build.
/// As a part of another message it must be there; use `Option` for one that need not.
macro_rules! message {
    ($($ours:ty as $wire:ident { $($field:ident),* })*) => { $(
        impl $crate::wire::value::Wire<$crate::wire::pb::$wire> for $ours {
            fn write(&self) -> $crate::wire::pb::$wire {
                let Self { $($field),* } = self;
                $crate::wire::pb::$wire { $($field: $crate::wire::value::Wire::write($field)),* }
            }
            fn read(
                wire: $crate::wire::pb::$wire,
                _: $crate::wire::value::Place,
            ) -> Result<Self, $crate::wire::value::Bad> {
                let $crate::wire::pb::$wire { $($field),* } = wire;
                Ok(Self { $($field: $crate::wire::value::Wire::read($field, (stringify!($wire), stringify!($field)))?),* })
            }
        }

        impl $crate::wire::value::Wire<Option<$crate::wire::pb::$wire>> for $ours {
            fn write(&self) -> Option<$crate::wire::pb::$wire> {
                Some($crate::wire::value::Wire::write(self))
            }
            fn read(
                wire: Option<$crate::wire::pb::$wire>,
                place: $crate::wire::value::Place,
            ) -> Result<Self, $crate::wire::value::Bad> {
                let wire = wire.ok_or_else(|| $crate::wire::value::Bad::missing(place))?;
                $crate::wire::value::Wire::read(wire, place)
            }
        }
    )* };
}
pub(super) use message;

/// An enum without values that has the same names on both sides; 0 stands for "nothing was said", which is an error.
macro_rules! choice {
    ($($ours:ident { $($name:ident),* })*) => { $(
        impl $crate::wire::value::Wire<i32> for $ours {
            fn write(&self) -> i32 {
                let wire = match self { $($ours::$name => $crate::wire::pb::$ours::$name,)* };
                wire as i32
            }
            fn read(wire: i32, place: $crate::wire::value::Place) -> Result<Self, $crate::wire::value::Bad> {
                match $crate::wire::pb::$ours::try_from(wire) {
                    $(Ok($crate::wire::pb::$ours::$name) => Ok($ours::$name),)*
                    Ok($crate::wire::pb::$ours::Unspecified) => Err($crate::wire::value::Bad::missing(place)),
                    Err(_) => Err($crate::wire::value::Bad::later(place, wire)),
                }
            }
        }
    )* };
}
pub(super) use choice;
