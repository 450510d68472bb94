//! Licence expressions of SPDX, as far as crates use them: names, `WITH`, `AND`, `OR`, parentheses, and the old `/` for `OR`.

use std::collections::BTreeSet;

/// May it be used when these licences are allowed?
pub(super) fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    words.reverse();
    let verdict = any_of(&mut words, allowed)?;
    match words.pop() {
        None => Ok(verdict),
        Some(word) => Err(format!("{word:?} is left over")),
    }
}

/// `a OR b OR …`; the words are on a stack, the next one on top.
fn any_of(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut verdict = all_of(words, allowed)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        verdict |= all_of(words, allowed)?;
    }
    Ok(verdict)
}

fn all_of(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut verdict = one(words, allowed)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        verdict &= one(words, allowed)?;
    }
    Ok(verdict)
}

fn one(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let word = words.pop().ok_or("it ends too early")?;
    match word {
        "(" => {
            let verdict = any_of(words, allowed)?;
            match words.pop() {
                Some(")") => Ok(verdict),
                _ => Err("a parenthesis stays open".to_owned()),
            }
        }
        ")" | "AND" | "OR" | "WITH" => Err(format!("{word:?} stands where a licence belongs")),
        name if words.pop_if(|word| *word == "WITH").is_some() => {
            let exception = words.pop().ok_or("WITH lacks its exception")?;
            Ok(allowed.contains(&format!("{name} WITH {exception}")))
        }
        name => Ok(allowed.contains(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expected: Result<bool, &str>) {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
        assert_eq!(is_allowed(expression, &allowed), expected.map_err(str::to_owned), "{expression}");
    }

    #[test]
    fn expressions_mean_what_spdx_says() {
        check("MIT", Ok(true));
        check("GPL-2.0 OR MIT", Ok(true));
        check("GPL-2.0/MIT", Ok(true));
        check("GPL-2.0 AND MIT", Ok(false));
        check("(MIT OR GPL-2.0) AND Apache-2.0", Ok(true));
        check("MIT OR GPL-2.0 AND ISC", Ok(true));
        check("Apache-2.0 WITH LLVM-exception", Ok(true));
        check("MIT WITH LLVM-exception", Ok(false));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        check("", Err("it ends too early"));
        check("(MIT", Err("a parenthesis stays open"));
        check("MIT MIT", Err("\"MIT\" is left over"));
        check("AND", Err("\"AND\" stands where a licence belongs"));
    }
}
