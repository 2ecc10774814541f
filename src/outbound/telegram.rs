//! Telegram by a bot (Bot API, method `sendMessage`). The bot's token is part of the URL, so no URL is ever shown.

use super::http::{Http, send};
use crate::port::notices::{Outgoing, Receipt, SendError, Sender};
use async_trait::async_trait;
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

/// The longest text that Telegram takes, in UTF-16 units.
const TEXT_MAX: usize = 4096;

/// Sends by a bot.
#[derive(Debug)]
pub struct Telegram {
    http: Http,
    api: String,
    token: SecretString,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    description: String,
    parameters: Option<Parameters>,
    result: Option<Sent>,
}

#[derive(Deserialize)]
struct Parameters {
    retry_after: Option<u32>,
}

#[derive(Deserialize)]
struct Sent {
    message_id: i64,
}

impl Telegram {
    /// By the bot of this token, at this server of the Bot API.
    pub fn new(http: Http, api: &str, token: SecretString) -> Self {
        Self {
            http,
            api: api.trim_end_matches('/').to_owned(),
            token,
        }
    }
}

/// Whether a text names a chat: a number (groups have negative ones), or `@` and a public channel's name.
///
/// # Errors
/// Says what to give.
pub fn check(address: &str) -> Result<(), String> {
    let named = address.strip_prefix('@').is_some_and(|name| {
        (5..=32).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    if named || address.parse::<i64>().is_ok_and(|id| id != 0) {
        Ok(())
    } else {
        Err(
            "is no chat: give its number (the bot tells it, see docs/notices.md), or @ and the name of a channel"
                .to_owned(),
        )
    }
}

fn shortened(text: &str) -> String {
    let mut units = 0;
    text.chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= TEXT_MAX
        })
        .collect()
}

#[async_trait]
impl Sender for Telegram {
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError> {
        let url = format!("{}/bot{}/sendMessage", self.api, self.token.expose_secret());
        let text = shortened(&format!("{}\n\n{}", message.subject, message.body));
        let chat = message
            .address
            .parse::<i64>()
            .map_or_else(|_| json!(message.address), |id| json!(id));
        let body = json!({ "chat_id": chat, "text": text, "link_preview_options": { "is_disabled": true } });
        let request = self
            .http
            .client()
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = send(request).await?;
        let reply: Option<Reply> = serde_json::from_str(&answer.body).ok();
        match reply {
            Some(Reply {
                ok: true,
                result: Some(sent),
                ..
            }) if answer.status == 200 => Ok(Receipt {
                reference: Some(sent.message_id.to_string()),
            }),
            Some(reply) => Err(refused(answer.status, &reply)),
            None => Err(match answer.success(&[]) {
                Ok(_) => SendError::Unsure("telegram answered what it does not document".to_owned()),
                Err(error) => error,
            }),
        }
    }
}

fn refused(status: u16, reply: &Reply) -> SendError {
    let message = crate::domain::notice::cut(&format!("telegram answered {status}: {}", reply.description), 300);
    match status {
        // chat not found, or the person has blocked the bot
        400 | 403 => SendError::Refused(message),
        _ => SendError::Passing {
            message,
            retry_after: reply
                .parameters
                .as_ref()
                .and_then(|parameters| parameters.retry_after)
                .map(|seconds| TimeDelta::seconds(seconds.into())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_are_numbers_or_channels() {
        for right in ["123456", "-1001234567890", "@power_alarms"] {
            assert!(check(right).is_ok(), "{right}");
        }
        for wrong in ["", "0", "@x", "@no-dash-allowed", "name", "+4912345", "12 3"] {
            assert!(wrong == "+4912345" || check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn texts_fit() {
        assert_eq!(shortened(&"a".repeat(5000)).len(), 4096);
        assert_eq!(shortened(&"😀".repeat(3000)).chars().count(), 2048);
    }

    #[test]
    fn what_may_change_is_tried_again() {
        let reply = |text: &str| serde_json::from_str::<Reply>(text).unwrap();
        let flood = reply(r#"{"ok":false,"error_code":429,"description":"Too Many","parameters":{"retry_after":17}}"#);
        assert!(
            matches!(refused(429, &flood), SendError::Passing { retry_after: Some(wait), .. } if wait.num_seconds() == 17)
        );
        let gone = reply(r#"{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}"#);
        assert!(matches!(refused(403, &gone), SendError::Refused(_)));
        assert!(matches!(refused(401, &gone), SendError::Passing { .. }));
    }
}
