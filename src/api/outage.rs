//! In front of every operation while the database is away: refused at once with 503, so that nobody waits for a database
//! that will not answer and no change is taken that could not be kept. With a full database reading goes on.

use super::ApiState;
use super::problem::{ApiError, Kind};
use crate::port::outage::{DatabaseCondition, Outage};
use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use std::time::Duration;

/// A request that is under way is cut off when the database has hung for this long.
const CUT_AFTER: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const RETRY_AFTER_S: u64 = 5;

/// The middleware.
pub(super) async fn gate<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let state = request.app_data::<web::Data<ApiState>>();
    let Some(condition) = state.map(|state| state.database.clone()) else {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    };
    if let Some(trouble) = condition.trouble()
        && (!request.method().is_safe() || !trouble.outage.reads_work())
    {
        let problem = refusal(
            trouble.outage,
            format!(
                "the database is away ({}) since {}; nothing was changed",
                trouble.outage.as_str(),
                trouble.since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            ),
        );
        let response = problem.error_response();
        return Ok(request.into_response(response).map_into_right_body());
    }
    tokio::select! {
        biased;
        response = next.call(request) => response.map(ServiceResponse::map_into_left_body),
        () = hung(&condition) => Err(refusal(
            Outage::Hung,
            "the database stopped answering while this was under way: look whether it took effect".to_owned(),
        )
        .into()),
    }
}

fn refusal(outage: Outage, detail: String) -> ApiError {
    ApiError::new(Kind::DatabaseAway, detail)
        .because(outage.as_str())
        .retry_after(RETRY_AFTER_S)
}

async fn hung(condition: &DatabaseCondition) {
    while !condition.hung_for(CUT_AFTER) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
