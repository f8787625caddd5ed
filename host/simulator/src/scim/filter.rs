//! SCIM filters: comparisons joined by `and` and `or`.

use serde_json::Value;

use super::Failure;

const FILTER_CHARACTERS_MAX: usize = 2_000;

#[derive(Debug)]
struct Comparison {
    attribute: String,
    operator: String,
    value: String,
}

/// Any of these groups, each of which must hold entirely.
#[derive(Debug)]
pub(super) struct Filter(Vec<Vec<Comparison>>);

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::new(400, "invalid_filter");
        if text.len() > FILTER_CHARACTERS_MAX {
            return Err(bad());
        }
        let mut words = words(text).ok_or_else(bad)?.into_iter();
        let mut any = vec![Vec::new()];
        loop {
            let (Some(attribute), Some(operator)) = (words.next(), words.next()) else { return Err(bad()) };
            let operator = operator.to_lowercase();
            let value = match operator.as_str() {
                "pr" => String::new(),
                "eq" | "ne" | "co" | "sw" | "ew" => words.next().ok_or_else(bad)?,
                _ => return Err(bad()),
            };
            if let Some(all) = any.last_mut() {
                all.push(Comparison { attribute, operator, value });
            }
            match words.next().map(|word| word.to_lowercase()).as_deref() {
                None => return Ok(Self(any)),
                Some("and") => {}
                Some("or") => any.push(Vec::new()),
                Some(_) => return Err(bad()),
            }
        }
    }

    /// Whether a resource fits. An attribute is a path; inside a list, any item will do.
    pub(super) fn fits(&self, resource: &Value) -> bool {
        self.0.iter().any(|all| all.iter().all(|one| one.holds(resource)))
    }
}

impl Comparison {
    fn holds(&self, resource: &Value) -> bool {
        let path = match self.attribute.to_lowercase().as_str() {
            "email" | "emails" => "emails.value".to_owned(),
            "members" => "members.value".to_owned(),
            "groups" => "groups.value".to_owned(),
            other => other.to_owned(),
        };
        let parts: Vec<&str> = path.split('.').collect();
        let mut found = Vec::new();
        collect(resource, &parts, &mut found);
        let wanted = self.value.to_lowercase();
        let any = |test: &dyn Fn(&str) -> bool| found.iter().any(|value| test(value));
        match self.operator.as_str() {
            "pr" => any(&|value| !value.is_empty()),
            "eq" => any(&|value| value == wanted),
            "ne" => !any(&|value| value == wanted),
            "co" => any(&|value| value.contains(&wanted)),
            "sw" => any(&|value| value.starts_with(&wanted)),
            "ew" => any(&|value| value.ends_with(&wanted)),
            _ => false,
        }
    }
}

fn collect(value: &Value, path: &[&str], found: &mut Vec<String>) {
    match (value, path) {
        (Value::Array(items), _) => items.iter().for_each(|item| collect(item, path, found)),
        (Value::Object(object), [first, rest @ ..]) => {
            for (name, inner) in object {
                if name.eq_ignore_ascii_case(first) {
                    collect(inner, rest, found);
                }
            }
        }
        (Value::String(text), []) => found.push(text.to_lowercase()),
        (Value::Bool(_) | Value::Number(_), []) => found.push(value.to_string()),
        _ => {}
    }
}

/// Splits at spaces, outside quotes.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(first) = letters.peek().copied() {
        if first.is_whitespace() {
            letters.next();
            continue;
        }
        let mut word = String::new();
        if first == '"' || first == '\'' {
            letters.next();
            loop {
                match letters.next()? {
                    '\\' => word.push(letters.next()?),
                    letter if letter == first => break,
                    letter => word.push(letter),
                }
            }
        } else {
            while let Some(letter) = letters.peek().copied().filter(|letter| !letter.is_whitespace()) {
                word.push(letter);
                letters.next();
            }
        }
        words.push(word);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_find_what_they_say() {
        let user = json!({
            "userName": "Mona", "active": true, "externalId": "x-1",
            "emails": [{"value": "mona@plus.example", "primary": true}], "name": {"familyName": "O'Hara"},
        });
        for (text, fits) in [
            (r#"userName eq "mona""#, true),
            (r#"email eq "MONA@plus.example""#, true),
            (r#"emails.value eq "other@plus.example""#, false),
            (r#"externalId eq "x-1" and active eq true"#, true),
            (r#"externalId eq "x-2" or active eq "true""#, true),
            (r#"name.familyName sw "O'H""#, true),
            ("title pr", false),
            (r#"userName ne "mona""#, false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().fits(&user), fits, "{text}");
        }
        for text in
            ["", "userName", "userName eq", r#"userName like "x""#, r#"userName eq "open"#, r#"a eq "b" xor c eq "d""#]
        {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
