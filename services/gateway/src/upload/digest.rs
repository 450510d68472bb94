//! A SHA-256 that can be put down and taken up again, by another process if need be.

use sha2::digest::common::hazmat::SerializableState as _;
use sha2::{Digest as _, Sha256 as Hasher};
use spool_proto::id::Sha256;

/// A digest under way.
#[derive(Clone, Default)]
pub(crate) struct Running(Hasher);

/// The text is no state of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state of the digest is not understood")]
pub(crate) struct StateError;

impl Running {
    /// Takes more bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Where it stands, as text.
    pub(crate) fn state(&self) -> String {
        self.0.serialize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// When the text is none.
    pub(crate) fn resume(state: &str) -> Result<Self, StateError> {
        let bytes: Option<Vec<u8>> = (0..state.len())
            .step_by(2)
            .map(|at| state.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        let bytes = bytes.ok_or(StateError)?;
        let state = bytes.as_slice().try_into().map_err(|_| StateError)?;
        Hasher::deserialize(&state).map(Self).map_err(|_| StateError)
    }

    /// The digest of all bytes so far.
    pub(crate) fn finish(&self) -> Sha256 {
        Sha256(self.0.clone().finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_was_put_down_at_any_byte_goes_on_as_if_it_had_not_been() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| i as u8).collect();
        for cut in [0, 1, 63, 64, 65, 500, 1000] {
            let mut first = Running::default();
            first.update(&bytes[..cut]);
            let mut second = Running::resume(&first.state()).expect("own state");
            second.update(&bytes[cut..]);
            assert_eq!(second.finish(), Sha256::of(&bytes), "{cut}");
        }
        assert!(Running::resume("").is_err() && Running::resume("zz").is_err());
    }
}
