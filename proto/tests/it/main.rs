//! The contract from outside: what was once written stays readable, what facts add up to, what the README says.

mod fold;
mod golden;
mod readme;
mod samples;
