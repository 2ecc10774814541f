//! A webhook's round: put a batch together, write down that it goes out, post it, write down that it is there.

use super::messages::item;
use super::runner::{Fault, Runner};
use crate::domain::integration::Position;
use crate::port::integrations::{FeedItem, Post, StoredIntegration};
use crate::port::notices::SendError;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// How long it waits for something new before it looks whether it is still wanted.
const IDLE: Duration = Duration::from_secs(5);
/// How often an item that waits for others is looked at.
const GATHER: Duration = Duration::from_millis(200);

pub(super) async fn round(runner: &mut Runner) -> Result<(), Fault> {
    let options = runner.integration.spec.options.clone();
    let mut page = runner
        .page(sending(runner).map(|(_, to)| to), options.batch_max)
        .await?;
    if page.items.is_empty() {
        return nothing(runner, page.reached, page.end).await;
    }
    if sending(runner).is_none() {
        // others may follow within the wait
        let until = tokio::time::Instant::now() + Duration::from_secs(options.batch_wait_s.into());
        while page.end
            && page.items.len() < usize::try_from(options.batch_max).unwrap_or(usize::MAX)
            && tokio::time::Instant::now() < until
            && !runner.stop.is_cancelled()
        {
            runner.wait_for_more(GATHER).await;
            page = runner.page(None, options.batch_max).await?;
        }
    }
    let (told, reached) = match sending(runner) {
        Some((_, to)) => (page.items.iter().map(item).collect(), to),
        None => fitting(&page.items, page.reached, runner.parts.settings.body_bytes_max),
    };
    if runner.stop.is_cancelled() {
        return Ok(());
    }
    let id = match sending(runner) {
        Some((id, _)) => id,
        None => {
            let id = Uuid::new_v4();
            runner.parts.feed.intend(runner.integration.id, id, reached).await?;
            runner.integration.status.sending = Some((id, reached));
            id
        }
    };
    let (items, lost) = (told.len(), runner.lost);
    post(runner, id, told, lost).await?;
    runner.integration.status.sending = None;
    runner.delivered(reached, items, lost).await;
    Ok(())
}

/// What was on its way when somebody ended, or is still.
fn sending(runner: &Runner) -> Option<(Uuid, Position)> {
    runner.integration.status.sending
}

/// There is nothing to tell up to here.
async fn nothing(runner: &mut Runner, reached: Position, end: bool) -> Result<(), Fault> {
    if runner.integration.status.sending.take().is_some() {
        // what was on its way is gone: retention has dropped it
        runner.delivered(reached, 0, 0).await;
        return Ok(());
    }
    runner.passed(reached).await?;
    if end {
        runner.wait_for_more(IDLE).await;
    }
    Ok(())
}

/// As many items as fit into a body, at least one, and the place behind them.
fn fitting(items: &[FeedItem], reached: Position, bytes_max: usize) -> (Vec<Value>, Position) {
    let mut told = Vec::with_capacity(items.len());
    let mut bytes = 0usize;
    let mut last = None;
    for one in items {
        let value = item(one);
        bytes = bytes.saturating_add(value.to_string().len());
        if bytes > bytes_max && last.is_some() {
            return (told, last.unwrap_or(reached));
        }
        last = Some(one.place);
        told.push(value);
    }
    (told, reached)
}

fn body(integration: &StoredIntegration, id: Uuid, items: Vec<Value>, lost: u64) -> String {
    json!({ "id": id, "type": "feed", "integration_id": integration.id, "account_id": integration.account, "lost": lost,
            "items": items })
    .to_string()
}

async fn post(runner: &Runner, id: Uuid, items: Vec<Value>, lost: u64) -> Result<(), SendError> {
    let _permit = runner
        .posts
        .acquire()
        .await
        .map_err(|_| SendError::passing("the server stops"))?;
    let integration = &runner.integration;
    let post = Post {
        target: &integration.spec.target,
        id,
        salts: &integration.salts,
        body: body(integration, id, items, lost),
    };
    runner.parts.poster.post(post).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::integration::FeedTopic;
    use crate::port::integrations::FeedData;

    #[test]
    fn a_body_is_cut_between_items_and_never_empty() {
        let items: Vec<FeedItem> = (1..=10)
            .map(|part| FeedItem {
                place: Position { seq: 5, part },
                id: format!("alarm-{part}"),
                topic: FeedTopic::Alarms,
                meter: None,
                dtu: None,
                data: FeedData::Event(json!({ "text": "x".repeat(1_000) })),
            })
            .collect();
        let end = Position::behind(9);
        let (told, reached) = fitting(&items, end, 3_500);
        assert_eq!((told.len(), reached), (3, Position { seq: 5, part: 3 }));
        assert_eq!(fitting(&items, end, 10).0.len(), 1);
        let (told, reached) = fitting(&items, end, 1_000_000);
        assert_eq!((told.len(), reached), (10, end));
    }
}
