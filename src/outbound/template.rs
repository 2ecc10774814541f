//! Templates of requests to SMS gateways: `{to}`, `{text}`, `{id}`, `{user}`, `{password}`, each written as the place
//! where it stands demands. What is filled in is never read as a template.

/// How values are written into a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Percent-encoded: URLs and forms.
    Percent,
    /// Inside a JSON text.
    Json,
    /// Inside XML.
    Xml,
    /// As it is, without control characters: headers and plain bodies.
    Plain,
}

impl Escape {
    /// What a body of this media type demands.
    pub fn of_media(media: &str) -> Self {
        let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if media == "application/x-www-form-urlencoded" {
            Self::Percent
        } else if media.ends_with("json") {
            Self::Json
        } else if media.ends_with("xml") {
            Self::Xml
        } else {
            Self::Plain
        }
    }

    fn write(self, value: &str) -> String {
        match self {
            Self::Percent => form_urlencoded::byte_serialize(value.as_bytes())
                // a plus means a blank in forms only; %20 does everywhere
                .map(|part| if part == "+" { "%20" } else { part })
                .collect(),
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'))
                    .unwrap_or_default()
                    .to_owned()
            }
            Self::Xml => value
                .chars()
                .filter(|c| !c.is_control() || *c == '\n')
                .map(|c| match c {
                    '&' => "&amp;".to_owned(),
                    '<' => "&lt;".to_owned(),
                    '>' => "&gt;".to_owned(),
                    '"' => "&quot;".to_owned(),
                    '\'' => "&apos;".to_owned(),
                    other => other.to_string(),
                })
                .collect(),
            Self::Plain => value.chars().filter(|c| !c.is_control()).collect(),
        }
    }
}

/// The names that a template may use.
pub const NAMES: [&str; 5] = ["to", "text", "id", "user", "password"];

/// Fills a template. Braces that hold no known name stay as they are (JSON is full of them).
pub fn fill(template: &str, escape: Escape, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let found = values.iter().find_map(|(name, value)| {
            let after = behind.strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        match found {
            Some((value, after)) => {
                out.push_str(&escape.write(value));
                rest = after;
            }
            None => {
                out.push('{');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_place_has_its_own_writing() {
        let values = [("to", "+49 170"), ("text", "a\"b & <c>\n{to}")];
        assert_eq!(
            fill("/send?to={to}&t={text}", Escape::Percent, &values),
            "/send?to=%2B49%20170&t=a%22b%20%26%20%3Cc%3E%0A%7Bto%7D"
        );
        assert_eq!(
            fill(r#"{"to":["{to}"],"t":"{text}","x":{}}"#, Escape::Json, &values),
            r#"{"to":["+49 170"],"t":"a\"b & <c>\n{to}","x":{}}"#
        );
        assert_eq!(
            fill("<t>{text}</t>", Escape::Xml, &values),
            "<t>a&quot;b &amp; &lt;c&gt;\n{to}</t>"
        );
        assert_eq!(fill("X: {text}", Escape::Plain, &values), "X: a\"b & <c>{to}");
        assert_eq!(Escape::of_media("application/json; charset=utf-8"), Escape::Json);
    }

    proptest! {
        /// Whatever a text holds, JSON stays JSON with that text in it, and a form stays a form.
        #[test]
        fn no_text_breaks_out(text in any::<String>()) {
            let values = [("text", text.as_str()), ("to", "1")];
            let json = fill(r#"{"to":"{to}","text":"{text}"}"#, Escape::Json, &values);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["text"].as_str(), Some(text.as_str()));
            let form = fill("to={to}&text={text}", Escape::Percent, &values);
            let read: Vec<(String, String)> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            prop_assert_eq!(&read[1].1, &text);
            prop_assert_eq!(read.len(), 2);
        }
    }
}
