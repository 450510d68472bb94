//! What stands after the `?` of an address, taken apart by hand so that every refusal names the parameter and its form.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query as Raw};
use axum::http::request::Parts;

use spool_kit::web::Refusal;
use spool_proto::{Code, Problem, TenantId};

/// Parameters of a request. A repeated one counts with its last value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let raw = Raw::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let text = || parts.uri.query().unwrap_or_default().chars().take(80).collect::<String>();
        raw.map(|Raw(query)| Self(query)).map_err(|_| invalid("the address", &text(), "a list of name=value"))
    }
}

fn invalid(name: &str, value: &str, form: &str) -> Refusal {
    let value: String = value.chars().take(80).collect();
    Problem::new(Code::QueryInvalid).with("name", name).with("value", format!("{value:?}")).with("form", form).into()
}

impl Query {
    /// A parameter of any form, if it is there and not empty.
    pub(crate) fn get<T: FromStr>(&self, name: &str, form: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.0.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(name, text, form))
    }

    /// A number of rows between 1 and `most`.
    pub(crate) fn limit(&self, usual: usize, most: usize) -> Result<usize, Refusal> {
        let form = format!("a number from 1 to {most}");
        let limit = self.get("limit", &form)?.unwrap_or(usual);
        if (1..=most).contains(&limit) { Ok(limit) } else { Err(invalid("limit", &limit.to_string(), &form)) }
    }

    /// Whose assets are asked about.
    pub(crate) fn tenant(&self) -> Result<TenantId, Refusal> {
        Ok(self.get("tenant", "a tenant")?.unwrap_or_else(TenantId::default_tenant))
    }

    /// The sequence that the view must have.
    pub(crate) fn at_least(&self) -> Result<Option<u64>, Refusal> {
        self.get("at_least", "a sequence")
    }
}
