//! Server-sent events, as they come over a connection in pieces. Pure.

use serde_json::Value;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Its id: the sequence on the log, to go on from after a break.
    pub(crate) id: Option<String>,
    /// Its kind; `message` when none was said.
    pub(crate) kind: String,
    /// What it says.
    pub(crate) data: Value,
}

/// An event is not longer than this; a server that sends more is not ours.
const LONGEST_BYTES: usize = 1 << 20;

/// A stream of events that sends no end of a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {LONGEST_BYTES} bytes")]
pub(crate) struct TooLong;

/// Puts the pieces together.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    rest: Vec<u8>,
    id: Option<String>,
    kind: Option<String>,
    data: String,
}

impl Parser {
    /// Takes a piece; gives the events that are whole now.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        self.rest.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned();
            events.extend(self.line(&line));
        }
        if self.rest.len() + self.data.len() > LONGEST_BYTES { Err(TooLong) } else { Ok(events) }
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.whole();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => self.kind = Some(value.to_owned()),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments keep the connection alive; other fields are none of ours.
            _ => {}
        }
        None
    }

    /// An empty line: the event is whole. One without data is none, as the standard says.
    fn whole(&mut self) -> Option<Event> {
        let (kind, data) = (self.kind.take(), std::mem::take(&mut self.data));
        if data.is_empty() {
            return None;
        }
        let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
        Some(Event { id: self.id.clone(), kind: kind.unwrap_or_else(|| "message".to_owned()), data })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STREAM: &[u8] =
        b": hello\n\nid: 7\nevent: asset\ndata: {\"a\":\ndata: 1}\n\nretry: 5\ndata: plain\r\n\r\nevent: x\n\n";

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let expected = vec![
            Event { id: Some("7".to_owned()), kind: "asset".to_owned(), data: json!({"a": 1}) },
            Event { id: Some("7".to_owned()), kind: "message".to_owned(), data: json!("plain") },
        ];
        for size in 1..=STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<Event> =
                STREAM.chunks(size).flat_map(|piece| parser.take(piece).expect("short enough")).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut parser = Parser::default();
        assert_eq!(parser.take(&vec![b'x'; LONGEST_BYTES + 1]), Err(TooLong));
    }
}
