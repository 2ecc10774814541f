//! Spans of time and zones in queries: `from`, `to`, `time_zone`.

use super::ApiState;
use super::auth::Caller;
use super::problem::{ApiError, Kind};
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::domain::schedule::parse_zone;
use chrono::{DateTime, Duration, TimeDelta, Utc};
use chrono_tz::Tz;

/// The longest name of a vendor quantity in a query.
const NAME_MAX: usize = 64;
/// The most quantities in a query.
const QUANTITIES_MAX: usize = 50;

/// `[from, to)`. `to` defaults to now, `from` to `back` before `to`.
///
/// # Errors
/// `bad-query` when the span is empty, or longer than `longest`.
pub(super) fn span(
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    back: Duration,
    longest: Duration,
) -> Result<(DateTime<Utc>, DateTime<Utc>), ApiError> {
    let outside = |field| ApiError::bad_query(field, "lies outside the years 1970 to 9999");
    let to = to.unwrap_or(now);
    let from = match from {
        Some(from) => from,
        None => to.checked_sub_signed(back).ok_or_else(|| outside("to"))?,
    };
    for (field, at) in [("from", from), ("to", to)] {
        if !(0..253_402_300_800).contains(&at.timestamp()) {
            return Err(outside(field));
        }
    }
    if from >= to {
        return Err(ApiError::bad_query("from", "must lie before `to`"));
    }
    if to - from > longest {
        return Err(ApiError::bad_query(
            "from",
            format!("the span is longer than {}; ask in parts", words(longest)),
        ));
    }
    Ok((from, to))
}

/// Checks `from` and `to` of a list that has pages, so that neither has to be there.
///
/// # Errors
/// `bad-query` when the span is empty or lies outside the years that are kept.
pub(super) fn check_open(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<(), ApiError> {
    let earliest = DateTime::UNIX_EPOCH;
    let latest = earliest + TimeDelta::seconds(253_402_300_799);
    let (from, to) = (from.unwrap_or(earliest), to.unwrap_or(latest));
    span(Some(from), Some(to), latest, TimeDelta::zero(), latest - earliest).map(|_| ())
}

fn words(span: TimeDelta) -> String {
    if span.num_days() >= 2 {
        format!("{} days", span.num_days())
    } else {
        format!("{} hours", span.num_hours())
    }
}

/// The zone that a query names, else the account's.
///
/// # Errors
/// `bad-query` for an unknown zone.
pub(super) async fn zone(state: &ApiState, caller: &Caller, named: Option<&str>) -> Result<Tz, ApiError> {
    if let Some(named) = named {
        return parse_zone(named).map_err(|error| ApiError::bad_query("time_zone", error.to_string()));
    }
    let account = state
        .auth
        .account(caller.account()?)
        .await?
        .ok_or_else(|| ApiError::not_found("account"))?;
    parse_zone(&account.time_zone).map_err(|error| ApiError::new(Kind::Internal, error.to_string()))
}

/// A quantity of the list, or a vendor quantity's name.
///
/// # Errors
/// `bad-query` for what cannot be a name.
pub(super) fn measurand(field: &str, name: &str) -> Result<Measurand, ApiError> {
    if let Some(quantity) = Quantity::by_name(name) {
        return Ok(Measurand::Standard(quantity));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
        return Err(ApiError::bad_query(field, format!("{name:?} is no name of a quantity")));
    }
    Ok(Measurand::Vendor(name.into()))
}

/// Quantities separated by commas.
///
/// # Errors
/// `bad-query` for what cannot be a name, and for too many.
pub(super) fn measurands(field: &str, names: Option<&str>) -> Result<Vec<Measurand>, ApiError> {
    let Some(names) = names else {
        return Ok(Vec::new());
    };
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    if names.len() > QUANTITIES_MAX {
        return Err(ApiError::bad_query(
            field,
            format!("names more than {QUANTITIES_MAX} quantities"),
        ));
    }
    names.into_iter().map(|name| measurand(field, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn spans_default_and_are_bounded() {
        let now = Utc.with_ymd_and_hms(2026, 3, 2, 0, 0, 0).unwrap();
        let day = TimeDelta::days(1);
        assert_eq!(span(None, None, now, day, day).unwrap(), (now - day, now));
        assert!(span(Some(now), Some(now), now, day, day).is_err());
        assert!(span(Some(now - day * 2), None, now, day, day).is_err());
        assert!(span(Some(DateTime::<Utc>::MIN_UTC), None, now, day, TimeDelta::MAX).is_err());
        assert!(span(None, Some(DateTime::<Utc>::MIN_UTC), now, day, day).is_err());
    }

    #[test]
    fn quantities_are_names() {
        let found = measurands("quantity", Some("voltage_l1, dial_position")).unwrap();
        assert_eq!(found[0], Measurand::Standard(Quantity::VoltageL1));
        assert_eq!(found[1], Measurand::Vendor("dial_position".into()));
        assert!(measurands("quantity", Some("a;b")).is_err());
        assert!(measurands("quantity", Some("")).is_err());
    }
}
