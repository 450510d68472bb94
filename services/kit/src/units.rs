//! Values of the configuration with their unit in the text: `"10m"`, `"64MiB"`. A bare number is refused, because nobody
//! knows of what it is a number.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Text that is no value with a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}; write a number and a unit, like {example}")]
pub struct UnitError {
    what: &'static str,
    example: &'static str,
    text: String,
}

/// A number of bytes: `B`, `kB`, `MB`, `GB`, `TB` in steps of 1000, `KiB`, `MiB`, `GiB`, `TiB` in steps of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A span of time: `ms`, `s`, `m`, `h`, `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Units from the largest; the first that divides the value evenly is written.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];
const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)], smallest: &str) -> fmt::Result {
    let unit = units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
    let (name, factor) = unit.copied().unwrap_or((smallest, 1));
    write!(f, "{}{name}", value / factor)
}

impl Bytes {
    /// `count` times 1024 × 1024 bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` times 1024³ bytes.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }
}

impl Span {
    /// `count` seconds.
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// `count` milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || UnitError { what: "number of bytes", example: "\"64MiB\"", text: text.to_owned() };
        parse(text, &SIZES).map(Self).ok_or_else(refuse)
    }
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || UnitError { what: "span of time", example: "\"10m\"", text: text.to_owned() };
        parse(text, &SPANS).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(refuse)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZES, "B")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SPANS, "s")
    }
}

/// Takes text only, so that a bare number is refused with the example in the message.
struct Text<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Text<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number with its unit, in quotes, like {}", self.0)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! in_quotes {
    ($name:ident, $example:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text($example, std::marker::PhantomData))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
in_quotes!(Bytes, "\"64MiB\"");
in_quotes!(Span, "\"10m\"");

/// A span as people read it: `2 h 5 min`, `40 s`.
pub fn spoken(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let said: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).take(2).collect();
    if said.is_empty() { format!("{} ms", span.as_millis()) } else { said.join(" ") }
}

/// The same for what is too long: part of a second counts as one, so that what is over a limit is not said to be equal to it.
pub fn at_least(span: Duration) -> String {
    spoken(Duration::from_secs(span.as_secs() + u64::from(span.subsec_nanos() > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_and_written_with_its_unit() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1kB", 1000), ("5 GiB", 5 << 30), ("0B", 0)] {
            let value: Bytes = text.parse().expect("a size");
            assert_eq!(value.0, bytes);
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        for (text, ms) in [("10m", 600_000), ("250ms", 250), ("1d", 86_400_000), ("0s", 0)] {
            let value: Span = text.parse().expect("a span");
            assert_eq!(value.0.as_millis(), ms);
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        assert_eq!(Bytes::mib(64).to_string(), "64MiB");
        assert_eq!(Span::secs(600).to_string(), "10m");
    }

    #[test]
    fn a_number_without_unit_is_refused_with_an_example() {
        let error = serde_json::from_str::<Span>("10").expect_err("a bare number");
        assert!(error.to_string().contains("in quotes, like \"10m\""), "{error}");
        for bad in ["10", "m", "", "10 minutes", "-1s", "99999999999999999999d", "9999999999999TiB"] {
            assert!(bad.parse::<Span>().is_err() || bad.parse::<Bytes>().is_err(), "{bad}");
        }
        assert!("10".parse::<Bytes>().is_err() && "9999999999999TiB".parse::<Bytes>().is_err());
    }

    #[test]
    fn people_read_the_two_largest_parts_of_a_span() {
        for (ms, text, rounded) in [
            (7_500_000, "2 h 5 min", "2 h 5 min"),
            (40_000, "40 s", "40 s"),
            (3_600_100, "1 h", "1 h 1 s"),
            (86_400_000, "1 d", "1 d"),
            (250, "250 ms", "1 s"),
        ] {
            let span = Duration::from_millis(ms);
            assert_eq!((spoken(span).as_str(), at_least(span).as_str()), (text, rounded));
        }
    }
}
