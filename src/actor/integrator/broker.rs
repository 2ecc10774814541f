//! A broker's round: one connection, from its welcome to its first fault. The place moves when the broker has confirmed.

use super::messages::Teller;
use super::runner::{Fault, Runner};
use crate::domain::integration::FeedTopic;
use crate::port::integrations::{BrokerSession, BrokerTarget, Publication};
use crate::port::scope::StoreError;
use std::time::Duration;

/// Items of one page.
const PAGE: u32 = 200;
/// Messages that are handed over together; each such part has the time of a confirmation.
const PART: usize = 500;
/// How often there is looked for what was removed and renamed.
const PLACES_EVERY: Duration = Duration::from_secs(30);
/// How long it waits for something new before it looks whether it is still wanted.
const IDLE: Duration = Duration::from_secs(5);

pub(super) async fn round(runner: &mut Runner) -> Result<(), Fault> {
    let spec = &runner.integration.spec;
    let sessions = spec.topics.contains(&FeedTopic::Sessions);
    let mut teller = Teller::new(runner.integration.account, spec.options.clone(), sessions);
    let target = BrokerTarget {
        target: spec.target.clone(),
        login: spec.login.clone(),
        sealed: runner.integration.sealed.clone(),
        client: format!("polyphase-{}-{}", runner.integration.account, runner.integration.id),
        will: Some(teller.will()),
    };
    let mut session = runner.parts.broker.connect(target).await?;
    publish(&mut *session, vec![teller.status(true)]).await?;
    settle(runner, &mut teller, &mut *session).await?;
    // it takes what it is told: whatever it failed by before is over
    runner.delivered(runner.at, 0, 0).await;
    let told = tell(runner, &mut teller, &mut *session).await;
    if told.is_ok() {
        publish(&mut *session, vec![teller.status(false)]).await?;
        session.close().await;
    }
    told
}

/// Until it is told to stop, or something fails.
async fn tell(runner: &mut Runner, teller: &mut Teller, session: &mut dyn BrokerSession) -> Result<(), Fault> {
    let mut looked = tokio::time::Instant::now();
    while !runner.stop.is_cancelled() {
        let page = runner.page(None, PAGE).await?;
        let lacks = page.items.iter().any(|item| teller.lacks(item));
        if lacks || looked.elapsed() >= PLACES_EVERY {
            settle(runner, teller, session).await?;
            looked = tokio::time::Instant::now();
        }
        if page.items.is_empty() {
            runner.passed(page.reached).await?;
            if page.end {
                wait(runner, session).await?;
            }
            continue;
        }
        let messages: Vec<Publication> = page.items.iter().flat_map(|item| teller.tell(item)).collect();
        publish(session, messages).await?;
        let lost = runner.lost;
        runner.delivered(page.reached, page.items.len(), lost).await;
    }
    Ok(())
}

/// Waits for something new, or for the end of the connection.
async fn wait(runner: &mut Runner, session: &mut dyn BrokerSession) -> Result<(), Fault> {
    tokio::select! {
        lost = session.idle(IDLE) => Ok(lost?),
        () = runner.wait_for_more(IDLE) => Ok(()),
    }
}

async fn publish(session: &mut dyn BrokerSession, messages: Vec<Publication>) -> Result<(), Fault> {
    let mut rest = messages.into_iter().peekable();
    while rest.peek().is_some() {
        session.publish(rest.by_ref().take(PART).collect()).await?;
    }
    Ok(())
}

/// Looks what there is now, and has the broker forget what is not.
async fn settle(runner: &mut Runner, teller: &mut Teller, session: &mut dyn BrokerSession) -> Result<(), Fault> {
    let now = runner.parts.clock.now();
    let places = runner.parts.feed.places(&runner.integration).await?;
    let removed = !places.gone.is_empty() || !places.gone_dtus.is_empty();
    publish(session, teller.settle(places)).await?;
    if removed {
        let cleared: Result<(), StoreError> = runner.parts.feed.cleared(runner.integration.id, now).await;
        cleared?;
        runner.integration.status.cleared_at = now;
    }
    Ok(())
}
