//! The arguments of a call, from wherever Slack takes them: query, form, JSON body.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::call::Refusal;

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    values: Map<String, Value>,
    /// The token, when it came as an argument.
    pub(crate) token: Option<String>,
    /// Whether they came as JSON, where what a form writes with commas is an array.
    pub(crate) is_json: bool,
    /// A remark about the content type that Slack adds to its answer.
    pub(crate) warning: Option<&'static str>,
}

impl Arguments {
    /// Reads a Web API request. Values of a form stay strings, as they came.
    pub(crate) fn parse(query: Option<&str>, content_type: Option<&str>, body: &[u8]) -> Result<Self, &'static str> {
        let mut arguments = Self::default();
        if let Some(query) = query {
            arguments.add_form(query.as_bytes());
        }
        let (kind, charset) = split_content_type(content_type.unwrap_or_default());
        if kind.eq_ignore_ascii_case("application/json") {
            arguments.is_json = true;
            if !body.is_empty() {
                match serde_json::from_slice::<Value>(body) {
                    Ok(Value::Object(values)) => arguments.values.extend(values),
                    Ok(_) => return Err("json_not_object"),
                    Err(_) => return Err("invalid_json"),
                }
                if !charset {
                    arguments.warning = Some("missing_charset");
                }
            }
        } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") || kind.is_empty() {
            arguments.add_form(body);
            if charset {
                arguments.warning = Some("superfluous_charset");
            }
        } else if !body.is_empty() {
            return Err("invalid_post_type");
        }
        if let Some(Value::String(token)) = arguments.values.remove("token") {
            arguments.token = Some(token);
        }
        Ok(arguments)
    }

    pub(crate) fn from_object(values: Map<String, Value>) -> Self {
        Self { values, ..Self::default() }
    }

    /// The same, with other values.
    pub(crate) fn with_values(&self, values: Map<String, Value>) -> Self {
        Self { values, token: self.token.clone(), is_json: self.is_json, warning: self.warning }
    }

    fn add_form(&mut self, form: &[u8]) {
        for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = percent_decode(halves.next().unwrap_or_default());
            let value = percent_decode(halves.next().unwrap_or_default());
            self.values.insert(name, Value::String(value));
        }
    }

    pub(crate) fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The argument as text; absent and null are the same.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.values.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }

    /// The argument as text, which must be there and not empty.
    pub(crate) fn need(&self, name: &str) -> Result<Cow<'_, str>, Refusal> {
        self.text(name).filter(|text| !text.is_empty()).ok_or_else(|| Refusal::missing(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.values.get(name)? {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => Some(number.as_i64() != Some(0)),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some(true),
                "false" | "0" | "no" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.flag(name) == Some(true)
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ()> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => number.as_i64().map(Some).ok_or(()),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| ()),
            Some(_) => Err(()),
        }
    }

    /// A list, as an array, an array in a string, or with commas.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<String>> {
        let from_array = |items: &[Value]| {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        };
        match self.values.get(name)? {
            Value::Array(items) => Some(from_array(items)),
            Value::String(text) if text.trim_start().starts_with('[') => match serde_json::from_str(text) {
                Ok(Value::Array(items)) => Some(from_array(&items)),
                _ => Some(vec![text.clone()]),
            },
            Value::String(text) => {
                Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
            }
            _ => None,
        }
    }

    /// A nested value: as it is in JSON, or JSON in a string. `Err` when the string is not JSON.
    pub(crate) fn nested(&self, name: &str) -> Result<Option<Value>, ()> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => serde_json::from_str(text).map(Some).map_err(|_| ()),
            Some(value) => Ok(Some(value.clone())),
        }
    }
}

fn split_content_type(header: &str) -> (&str, bool) {
    let mut parts = header.split(';');
    let kind = parts.next().unwrap_or_default().trim();
    (kind, parts.any(|part| part.trim().to_ascii_lowercase().starts_with("charset=")))
}

pub(crate) fn percent_decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hex = |byte: u8| char::from(byte).to_digit(16);
        match (first, tail) {
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (b'%', [high, low, after @ ..]) => {
                if let (Some(high), Some(low)) = (hex(*high), hex(*low)) {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    rest = after;
                } else {
                    bytes.push(b'%');
                    rest = tail;
                }
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_json_say_the_same() {
        let form = Arguments::parse(
            Some("cursor=a%3D%3D"),
            Some("application/x-www-form-urlencoded"),
            b"users=U1%2CU2&limit=5&ids=%5B%22a%22%5D&full=true&token=xoxb-hq&text=a+b%2Bc%",
        )
        .unwrap();
        assert_eq!(form.token.as_deref(), Some("xoxb-hq"));
        assert_eq!(form.list("users"), Some(vec!["U1".to_owned(), "U2".to_owned()]));
        assert_eq!(form.list("ids"), Some(vec!["a".to_owned()]));
        assert_eq!(form.number("limit"), Ok(Some(5)));
        assert_eq!(form.text("text").as_deref(), Some("a b+c%"));
        assert_eq!(form.text("cursor").as_deref(), Some("a=="));
        assert!(form.is_set("full"));
        let json =
            Arguments::parse(None, Some("application/json;charset=utf-8"), br#"{"users":["U1","U2"],"limit":5}"#)
                .unwrap();
        assert_eq!(json.list("users"), form.list("users"));
        assert_eq!(json.number("limit"), Ok(Some(5)));
        assert_eq!(json.warning, None);
    }

    #[test]
    fn remarks_about_the_content_type() {
        let bare = Arguments::parse(None, Some("application/json"), b"{}").unwrap();
        assert_eq!(bare.warning, Some("missing_charset"));
        assert!(Arguments::parse(None, Some("application/json; charset=utf-8"), b"").is_ok());
        assert_eq!(Arguments::parse(None, Some("application/json"), b"[1]").err(), Some("json_not_object"));
        assert_eq!(Arguments::parse(None, Some("text/plain"), b"x").err(), Some("invalid_post_type"));
    }
}
