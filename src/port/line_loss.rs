//! Line loss: what the sum meter of a group counted and its sub-meters did not.

use super::readings::Per;
use super::scope::StoreError;
use crate::base::ids::{GroupId, PointId};
use crate::domain::quantity::Quantity;
use crate::domain::reading::Quality;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::Serialize;

/// Which line loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LineLossQuery {
    /// The group; the groups within it belong to it.
    pub group: GroupId,
    /// The register that is compared.
    pub quantity: Quantity,
    /// From (included).
    pub from: DateTime<Utc>,
    /// To (excluded).
    pub to: DateTime<Utc>,
    /// The slices.
    pub per: Per,
    /// The account's zone, by which its days are rolled up.
    pub zone: Tz,
}

/// The line loss of a group.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct LineLoss {
    /// The group.
    #[schema(value_type = i32)]
    pub group_id: GroupId,
    /// The point whose meter counts what is supplied; null: the group has none, and nothing is supplied.
    #[schema(value_type = Option<i32>)]
    pub sum_point_id: Option<PointId>,
    /// The register.
    #[schema(example = "active_energy_import")]
    pub quantity: &'static str,
    /// Its unit, of everything below.
    #[schema(example = "kWh")]
    pub unit: &'static str,
    /// The slices, oldest first.
    pub items: Vec<LineLossItem>,
}

/// One slice.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct LineLossItem {
    /// Beginning of the slice (included).
    pub from: DateTime<Utc>,
    /// End of the slice (excluded).
    pub to: DateTime<Utc>,
    /// What the sum meter counted; null where its readings do not cover the slice.
    #[schema(value_type = Option<String>, example = "1290.5")]
    pub supplied: Option<Decimal>,
    /// What those sub-meters counted whose readings cover the slice; null where there are none.
    #[schema(value_type = Option<String>, example = "1243.1")]
    pub sold: Option<Decimal>,
    /// What was supplied and not sold; null where either is. As long as `covered` is less than `sub_meters`, it holds what
    /// the others counted, too.
    #[schema(value_type = Option<String>, example = "47.4")]
    pub loss: Option<Decimal>,
    /// The loss in per cent of what was supplied, to two places; null where nothing was.
    #[schema(value_type = Option<String>, example = "3.67")]
    pub loss_percent: Option<Decimal>,
    /// Sub-meters that stood in the group for some of the slice.
    pub sub_meters: i64,
    /// Of them those whose readings cover the slice.
    pub covered: i64,
    /// The sum meter and every sub-meter are in it.
    pub complete: bool,
    /// The worst quality of what it is made of; null where it is made of nothing.
    #[schema(value_type = Option<String>, example = "measured")]
    pub quality: Option<Quality>,
}

/// What the meters of a slice counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// The sum meter.
    pub supplied: Option<Decimal>,
    /// The sub-meters.
    pub sold: Option<Decimal>,
    /// Sub-meters there.
    pub sub_meters: i64,
    /// Sub-meters that are in `sold`.
    pub covered: i64,
    /// The worst quality.
    pub quality: Option<Quality>,
}

impl LineLossItem {
    /// The figures of a slice.
    pub fn of(from: DateTime<Utc>, to: DateTime<Utc>, counted: Counted) -> Self {
        let Counted {
            supplied,
            sold,
            sub_meters,
            covered,
            quality,
        } = counted;
        let loss = supplied
            .zip(sold)
            .and_then(|(supplied, sold)| supplied.checked_sub(sold));
        let share = loss
            .zip(supplied)
            .and_then(|(loss, supplied)| loss.checked_div(supplied));
        let percent = share.and_then(|share| share.checked_mul(Decimal::ONE_HUNDRED));
        Self {
            from,
            to,
            supplied: supplied.map(|value| value.normalize()),
            sold: sold.map(|value| value.normalize()),
            loss: loss.map(|value| value.normalize()),
            loss_percent: percent.map(|value| value.round_dp(2).normalize()),
            sub_meters,
            covered,
            complete: supplied.is_some() && sub_meters > 0 && covered == sub_meters,
            quality,
        }
    }
}

/// The line losses of one account.
#[async_trait]
pub trait LineLossStore: Send + Sync {
    /// By slice, oldest first, out of the roll-ups of consumption.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a group of another account.
    async fn line_loss(&self, query: &LineLossQuery) -> Result<LineLoss, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal::dec;

    fn of(supplied: Option<Decimal>, sold: Option<Decimal>, sub_meters: i64, covered: i64) -> LineLossItem {
        let counted = Counted {
            supplied,
            sold,
            sub_meters,
            covered,
            quality: None,
        };
        LineLossItem::of(DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH, counted)
    }

    #[test]
    fn a_loss_needs_both_sides_and_says_whether_all_are_in_it() {
        let whole = of(Some(dec!(120.00)), Some(dec!(114.5)), 3, 3);
        assert_eq!(
            (whole.loss, whole.loss_percent, whole.complete),
            (Some(dec!(5.5)), Some(dec!(4.58)), true)
        );
        assert!(!of(Some(dec!(120)), Some(dec!(80)), 3, 2).complete);
        let none = of(None, Some(dec!(80)), 3, 3);
        assert_eq!((none.loss, none.loss_percent, none.complete), (None, None, false));
        // nothing was supplied: there is no share of nothing
        let idle = of(Some(Decimal::ZERO), Some(Decimal::ZERO), 1, 1);
        assert_eq!(
            (idle.loss, idle.loss_percent, idle.complete),
            (Some(Decimal::ZERO), None, true)
        );
        // more sold than supplied is shown as it is
        assert_eq!(of(Some(dec!(10)), Some(dec!(11)), 1, 1).loss_percent, Some(dec!(-10)));
        assert!(!of(Some(dec!(10)), None, 0, 0).complete);
    }
}
