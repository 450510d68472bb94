//! What stands after the `?` of an address, taken apart by hand so that every refusal names the parameter and its form.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query as Raw};
use axum::http::request::Parts;
use spool_proto::{Code, Problem, TenantId};

use super::Refusal;

/// Parameters of a request, each given once.
#[derive(Debug, Clone, Default)]
pub struct Query(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let raw = Raw::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let text = || parts.uri.query().unwrap_or_default().to_owned();
        let Raw(pairs) = raw.map_err(|_| invalid("the address", &text(), "a list of name=value"))?;
        let mut query = BTreeMap::new();
        for (name, value) in pairs {
            if let Some(first) = query.insert(name.clone(), value.clone()) {
                return Err(invalid(&name, &format!("{first}, {value}"), "given once"));
            }
        }
        Ok(Self(query))
    }
}

fn invalid(name: &str, value: &str, form: &str) -> Refusal {
    let short = |text: &str| text.chars().take(80).collect::<String>();
    let value = format!("{:?}", short(value));
    Problem::new(Code::QueryInvalid).with("name", short(name)).with("value", value).with("form", form).into()
}

impl Query {
    /// Refuses parameters of other names: a filter that is misspelt must not answer with everything.
    ///
    /// # Errors
    /// `query_invalid` with the first name that is not known and those that are.
    pub fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let Some(name) = self.0.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(invalid("the address", name, &format!("a parameter known here (known: {known})")))
    }

    /// A parameter of any form, if it is there and not empty.
    ///
    /// # Errors
    /// `query_invalid` when it has another form.
    pub fn get<T: FromStr>(&self, name: &str, form: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.0.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(name, text, form))
    }

    /// A number of rows between 1 and `most`.
    ///
    /// # Errors
    /// `query_invalid` when it is another number or none.
    pub fn limit(&self, usual: usize, most: usize) -> Result<usize, Refusal> {
        let form = format!("a number from 1 to {most}");
        let limit = self.get("limit", &form)?.unwrap_or(usual);
        if (1..=most).contains(&limit) { Ok(limit) } else { Err(invalid("limit", &limit.to_string(), &form)) }
    }

    /// Whose assets are asked about.
    ///
    /// # Errors
    /// `query_invalid` when it is no tenant's name.
    pub fn tenant(&self) -> Result<TenantId, Refusal> {
        Ok(self.get("tenant", "a tenant")?.unwrap_or_else(TenantId::default_tenant))
    }

    /// The sequence that the view must have.
    ///
    /// # Errors
    /// `query_invalid` when it is no number.
    pub fn at_least(&self) -> Result<Option<u64>, Refusal> {
        self.get("at_least", "a sequence")
    }
}
