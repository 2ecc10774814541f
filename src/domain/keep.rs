//! Which backups are kept: the newest of each of the last days, weeks and months that have one. Pure.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use std::collections::BTreeSet;

/// How many days, weeks and months keep one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepRule {
    /// Days.
    pub daily: usize,
    /// ISO weeks.
    pub weekly: usize,
    /// Calendar months.
    pub monthly: usize,
}

/// The newest of each of the `count` newest spans.
fn newest<K: Ord>(
    made: &[DateTime<Utc>],
    count: usize,
    span: impl Fn(NaiveDate) -> K,
    kept: &mut BTreeSet<DateTime<Utc>>,
) {
    let mut seen = BTreeSet::new();
    for at in made.iter().rev() {
        if seen.len() >= count {
            return;
        }
        if seen.insert(span(at.date_naive())) {
            kept.insert(*at);
        }
    }
}

/// Which of these are kept. The newest of all always is; so nothing is ever left without any.
pub fn kept(made: &[DateTime<Utc>], rule: KeepRule) -> BTreeSet<DateTime<Utc>> {
    let mut made = made.to_vec();
    made.sort_unstable();
    let mut kept: BTreeSet<_> = made.last().copied().into_iter().collect();
    newest(&made, rule.daily, |day| day, &mut kept);
    newest(
        &made,
        rule.weekly,
        |day| (day.iso_week().year(), day.iso_week().week()),
        &mut kept,
    );
    newest(&made, rule.monthly, |day| (day.year(), day.month()), &mut kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    const RULE: KeepRule = KeepRule {
        daily: 3,
        weekly: 2,
        monthly: 2,
    };

    fn days(kept: &BTreeSet<DateTime<Utc>>) -> Vec<String> {
        kept.iter().map(|at| at.format("%m-%d %H").to_string()).collect()
    }

    #[test]
    fn days_weeks_and_months_keep_their_newest() {
        let end: DateTime<Utc> = "2026-03-18T12:00:00Z".parse().unwrap(); // a Wednesday
        let made: Vec<_> = (0..200).map(|half| end - TimeDelta::hours(12 * half)).collect();
        let found = kept(&made, RULE);
        // three days; Sunday ended the week before; February's last
        assert_eq!(
            days(&found),
            ["02-28 12", "03-15 12", "03-16 12", "03-17 12", "03-18 12"]
        );
    }

    proptest! {
        #[test]
        fn what_was_dropped_is_never_wanted_again(
            hours in proptest::collection::btree_set(0i64..9_000, 1..60), daily in 0usize..4, weekly in 0usize..4, monthly in 0usize..4,
        ) {
            let rule = KeepRule { daily, weekly, monthly };
            let begin = DateTime::<Utc>::UNIX_EPOCH;
            let all: Vec<_> = hours.iter().map(|hour| begin + TimeDelta::hours(*hour)).collect();
            // backups come one by one, and each time the rule is applied to what is left
            let mut left: Vec<DateTime<Utc>> = Vec::new();
            for at in &all {
                left.push(*at);
                left = kept(&left, rule).into_iter().collect();
            }
            prop_assert_eq!(left, kept(&all, rule).into_iter().collect::<Vec<_>>());
        }
    }
}
