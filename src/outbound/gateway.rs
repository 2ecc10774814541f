//! SMS by an HTTP gateway: whichever one, its request is a template of the configuration.

use super::http::{Http, send};
use super::template::{Escape, NAMES, fill};
use crate::port::notices::{Outgoing, Receipt, SendError, Sender};
use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

/// How the gateway is asked.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// `GET`, `POST` or `PUT`.
    pub method: String,
    /// The URL, a template.
    pub url: String,
    /// Headers, `Name: value` one a line, templates.
    pub headers: String,
    /// The media type of the body.
    pub content_type: String,
    /// The body, a template; empty: none.
    pub body: String,
    /// What the answer's body must hold, besides status 2xx; empty: nothing.
    pub success: String,
    /// For `{user}`.
    pub user: String,
    /// For `{password}`.
    pub password: SecretString,
}

/// Sends by a gateway.
#[derive(Debug)]
pub struct Gateway {
    http: Http,
    settings: GatewaySettings,
    method: Method,
    headers: Vec<(HeaderName, String)>,
}

impl Gateway {
    /// By this gateway.
    ///
    /// # Errors
    /// Says which setting is wrong.
    pub fn new(http: Http, settings: GatewaySettings) -> Result<Self, String> {
        let method = match settings.method.as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            other => return Err(format!("method: {other:?} is neither GET, POST nor PUT")),
        };
        let sample: Vec<(&str, &str)> = NAMES.iter().map(|name| (*name, "1")).collect();
        url::Url::parse(&fill(&settings.url, Escape::Percent, &sample)).map_err(|error| format!("url: {error}"))?;
        if !settings.url.contains("{text}") && !settings.body.contains("{text}") {
            return Err("body: neither it nor url holds {text}".to_owned());
        }
        let headers = settings
            .headers
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let (name, value) = line
                    .split_once(':')
                    .ok_or_else(|| "headers: write each as Name: value".to_owned())?;
                let name = HeaderName::from_bytes(name.trim().as_bytes())
                    .map_err(|_| format!("headers: {:?} is no name", name.trim()))?;
                Ok((name, value.trim().to_owned()))
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self {
            http,
            settings,
            method,
            headers,
        })
    }
}

/// Whether a text is a telephone number in international form (E.164).
///
/// # Errors
/// Says what to give.
pub fn check(address: &str) -> Result<(), String> {
    let digits = address.strip_prefix('+').unwrap_or_default();
    if (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') {
        Ok(())
    } else {
        Err("is no telephone number in international form such as +8613912345678".to_owned())
    }
}

#[async_trait]
impl Sender for Gateway {
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError> {
        let id = message.id.to_string();
        let settings = &self.settings;
        let values = [
            ("to", message.address.as_str()),
            ("text", message.body.as_str()),
            ("id", id.as_str()),
            ("user", settings.user.as_str()),
            ("password", settings.password.expose_secret()),
        ];
        let url = fill(&settings.url, Escape::Percent, &values);
        let mut request = self.http.client().request(self.method.clone(), url);
        for (name, template) in &self.headers {
            let mut value = HeaderValue::from_str(&fill(template, Escape::Plain, &values))
                .map_err(|_| SendError::Refused(format!("header {name} cannot be written")))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if !settings.body.is_empty() {
            request = request.header("content-type", &settings.content_type).body(fill(
                &settings.body,
                Escape::of_media(&settings.content_type),
                &values,
            ));
        }
        let answer = send(request).await?.success(&[400, 422])?;
        if !settings.success.is_empty() && !answer.body.contains(&settings.success) {
            let excerpt = crate::domain::notice::cut(answer.body.trim(), 200);
            return Err(SendError::passing(format!(
                "the gateway's answer does not say that it worked: {excerpt}"
            )));
        }
        Ok(Receipt {
            reference: Some(crate::domain::notice::cut(answer.body.trim(), 200)).filter(|text| !text.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_international() {
        assert!(check("+8613912345678").is_ok());
        for wrong in ["", "+", "013912345678", "+0123456789", "+49 170 1", "+1234567890123456"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
