//! Overrides by the environment: `SPOOL__GATEWAY__MAX_UPLOAD=20GiB` is `gateway.max_upload = "20GiB"`.
//!
//! Two underscores begin and part the names, because one stands inside keys, and because the platform sets variables such
//! as `SPOOL_PORT` on its own when a service is called spool. A name that is no key is refused like one in the file.

use toml::{Table, Value};

use crate::exit::{Exit, Failure};

const PREFIX: &str = "SPOOL__";

/// One variable, taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct Override {
    /// Its whole name, for complaints.
    pub(super) variable: String,
    /// The key: sections, then the name.
    pub(super) path: Vec<String>,
    /// Its value.
    pub(super) value: Value,
}

/// The overrides among these variables, by name.
pub(super) fn overrides(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let mut found: Vec<Override> = variables
        .filter_map(|(variable, text)| {
            let path = variable.strip_prefix(PREFIX)?.split("__").map(str::to_lowercase).collect();
            Some(Override { path, value: value(&text), variable })
        })
        .collect();
    found.sort_by(|a, b| a.variable.cmp(&b.variable));
    found
}

/// TOML where it is a number, a truth value, a list, a table or a quoted text; else the text itself.
fn value(text: &str) -> Value {
    let document = format!("value = {text}");
    match document.parse::<Table>().ok().and_then(|mut table| table.remove("value")) {
        Some(Value::Datetime(_)) | None => Value::String(text.to_owned()),
        Some(value) => value,
    }
}

/// Puts an override into the table of the file.
pub(super) fn put(table: &mut Table, one: &Override) -> Result<(), Failure> {
    let (name, sections) = match one.path.split_last() {
        Some((name, sections)) if one.path.iter().all(|part| !part.is_empty()) => (name, sections),
        _ => return Err(Failure::new(Exit::Config, format!("{} names no setting", one.variable))),
    };
    let mut here = table;
    for section in sections {
        let entry = here.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = entry else {
            return Err(Failure::new(Exit::Config, format!("{}: {section} is a setting, not a section", one.variable)));
        };
        here = inner;
    }
    here.insert(name.clone(), one.value.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variable: &str, text: &str, expected: &str) {
        let mut table = Table::new();
        for one in overrides(std::iter::once((variable.to_owned(), text.to_owned()))) {
            put(&mut table, &one).expect("a setting");
        }
        assert_eq!(table, expected.parse::<Table>().expect("TOML"), "{variable}={text}");
    }

    #[test]
    fn a_variable_becomes_the_key_it_names() {
        check("SPOOL__GRACE", "5s", "grace = '5s'");
        check("SPOOL__GATEWAY__MAX_UPLOAD", "20GiB", "gateway.max_upload = '20GiB'");
        check("SPOOL__NATS__REPLICAS", "3", "nats.replicas = 3");
        check("SPOOL__TOKENS", "['one', 'two']", "tokens = ['one', 'two']");
        check("SPOOL__NATS__PASSWORDS__ADMIN", "\"123\"", "nats.passwords.admin = '123'");
        check("SPOOL__STORE__S3__BUCKET", "a b = c", "store.s3.bucket = 'a b = c'");
    }

    #[test]
    fn other_variables_are_none_of_ours() {
        check("SPOOL_PORT", "tcp://10.0.0.1:7070", "");
        check("SPOOL_SERVER", "http://x", "");
    }
}
