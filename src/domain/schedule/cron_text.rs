//! Cron text: checked field by field with advice, normalised to what the `cron` crate reads, expanded by it to sets.

use super::{CompiledSchedule, ScheduleError};
use chrono_tz::Tz;
use cron::TimeUnitSpec;
use std::fmt;
use std::str::FromStr;

/// The longest cron expression, bytes.
pub const CRON_TEXT_MAX: usize = 256;

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A field of a cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CronField {
    /// 0 to 59; only in expressions of 6 fields.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31, or `L`.
    DayOfMonth,
    /// 1 to 12, or JAN to DEC.
    Month,
    /// 0 to 7 (0 and 7 are Sunday), or SUN to SAT.
    DayOfWeek,
}

impl CronField {
    const ALL: [Self; 6] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::DayOfMonth,
        Self::Month,
        Self::DayOfWeek,
    ];

    fn range(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }

    fn names(self) -> (&'static [&'static str], u32) {
        match self {
            Self::Month => (&MONTHS, 1),
            Self::DayOfWeek => (&WEEKDAYS, 0),
            _ => (&[], 0),
        }
    }

    fn is_day(self) -> bool {
        matches!(self, Self::DayOfMonth | Self::DayOfWeek)
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = self.range();
        let name = match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day-of-month",
            Self::Month => "month",
            Self::DayOfWeek => "day-of-week",
        };
        write!(f, "{name} ({min}-{max})")
    }
}

/// One item of a field's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    start: u32,
    end: u32,
    step: u32,
    /// A plain value, not a wildcard, range or step.
    plain: bool,
}

/// A field after checking.
#[derive(Clone, Debug, Default)]
struct Field {
    items: Vec<Item>,
    /// `L` stands in it.
    last: bool,
    /// It begins with a wildcard, so it does not restrict by itself.
    star: bool,
}

impl Field {
    /// Whether it is made of plain values only.
    fn fixed(&self) -> bool {
        self.items.iter().all(|item| item.plain)
    }

    /// The text for the `cron` crate, whose weekdays count from Sunday = 1.
    fn text(&self, field: CronField) -> String {
        let parts: Vec<String> = if field == CronField::DayOfWeek {
            let mut days: Vec<u32> = self
                .items
                .iter()
                .flat_map(|item| (item.start..=item.end).step_by(step(item.step)))
                .map(|day| day % 7 + 1)
                .collect();
            days.sort_unstable();
            days.dedup();
            days.iter().map(u32::to_string).collect()
        } else {
            self.items.iter().map(item_text).collect()
        };
        if parts.is_empty() {
            // `L` alone: the crate needs something to read; its set is not used
            "1".to_owned()
        } else {
            parts.join(",")
        }
    }
}

fn step(step: u32) -> usize {
    usize::try_from(step).unwrap_or(usize::MAX).max(1)
}

fn item_text(item: &Item) -> String {
    if item.start == item.end {
        item.start.to_string()
    } else {
        format!("{}-{}/{}", item.start, item.end, item.step)
    }
}

/// Parses and compiles an expression.
pub(super) fn compile(text: &str, zone: Tz) -> Result<CompiledSchedule, ScheduleError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ScheduleError::Empty);
    }
    if text.len() > CRON_TEXT_MAX {
        return Err(ScheduleError::TooLong { found: text.len() });
    }
    let [second, minute, hour, day, month, weekday] = fields(text)?;
    let normal = format!(
        "{} {} {} {} {} {} *",
        second.text(CronField::Second),
        minute.text(CronField::Minute),
        hour.text(CronField::Hour),
        day.text(CronField::DayOfMonth),
        month.text(CronField::Month),
        weekday.text(CronField::DayOfWeek),
    );
    let sets = cron::Schedule::from_str(&normal).map_err(|error| ScheduleError::Compile(error.to_string()))?;
    Ok(CompiledSchedule {
        seconds: bits(sets.seconds()),
        minutes: bits(sets.minutes()),
        hours: narrow(bits(sets.hours())),
        days: if day.items.is_empty() {
            0
        } else {
            narrow(bits(sets.days_of_month()))
        },
        months: u16::try_from(bits(sets.months())).unwrap_or(u16::MAX),
        weekdays: u8::try_from(bits(sets.days_of_week()) >> 1).unwrap_or(u8::MAX),
        last_day: day.last,
        either_day: !day.star && !weekday.star,
        fixed: minute.fixed() && hour.fixed(),
        every_min: 0,
        zone,
    })
}

fn narrow(bits: u64) -> u32 {
    u32::try_from(bits).unwrap_or(u32::MAX)
}

fn bits(set: &impl TimeUnitSpec) -> u64 {
    set.iter()
        .filter_map(|value| 1_u64.checked_shl(value))
        .fold(0, |bits, bit| bits | bit)
}

/// Splits an expression into its six fields and checks each.
fn fields(text: &str) -> Result<[Field; 6], ScheduleError> {
    let text = if text.starts_with('@') { shorthand(text)? } else { text };
    let words: Vec<&str> = text.split_whitespace().collect();
    let words: [&str; 6] = match *words.as_slice() {
        [minute, hour, day, month, weekday] => ["0", minute, hour, day, month, weekday],
        [second, minute, hour, day, month, weekday] => [second, minute, hour, day, month, weekday],
        _ => {
            return Err(ScheduleError::FieldCount {
                found: words.len(),
                hint: if words.len() == 7 {
                    "; leave out the year at the end"
                } else {
                    ""
                },
            });
        }
    };
    let mut checked: [Field; 6] = Default::default();
    for ((slot, word), field) in checked.iter_mut().zip(words).zip(CronField::ALL) {
        *slot = parse_field(word, field)?;
    }
    Ok(checked)
}

fn shorthand(text: &str) -> Result<&'static str, ScheduleError> {
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(ScheduleError::Shorthand { found: text.to_owned() }),
    }
}

fn fault(field: CronField, item: &str, problem: impl Into<String>) -> ScheduleError {
    ScheduleError::Field {
        field,
        item: item.to_owned(),
        problem: problem.into(),
    }
}

fn parse_field(word: &str, field: CronField) -> Result<Field, ScheduleError> {
    let mut parsed = Field {
        star: word.starts_with(['*', '?']),
        ..Field::default()
    };
    for item in word.split(',') {
        if item.is_empty() {
            return Err(fault(
                field,
                word,
                "has an empty place in its list; write 1,2 without a comma too many",
            ));
        }
        if field == CronField::DayOfMonth && item.eq_ignore_ascii_case("L") {
            parsed.last = true;
        } else {
            parsed.items.push(parse_item(item, field)?);
        }
    }
    Ok(parsed)
}

fn parse_item(item: &str, field: CronField) -> Result<Item, ScheduleError> {
    let (min, max) = field.range();
    // a wildcard over weekdays must not count Sunday twice
    let max_of_all = if field == CronField::DayOfWeek { 6 } else { max };
    let (body, stepped) = match item.split_once('/') {
        Some((body, by)) => (body, Some(parse_step(item, by, field, max - min)?)),
        None => (item, None),
    };
    let step = stepped.unwrap_or(1);
    if body == "*" || (body == "?" && field.is_day()) {
        return Ok(Item {
            start: min,
            end: max_of_all,
            step,
            plain: false,
        });
    }
    if let Some((low, high)) = body.split_once('-') {
        let (start, mut end) = (parse_value(item, low, field)?, parse_value(item, high, field)?);
        if field == CronField::DayOfWeek && end == 0 && start > 0 {
            // FRI-SUN: as the end of a range, Sunday is day 7
            end = 7;
        }
        if start > end {
            return Err(fault(field, item, backwards(low, high, field)));
        }
        return Ok(Item {
            start,
            end,
            step,
            plain: false,
        });
    }
    let start = parse_value(item, body, field)?;
    Ok(match stepped {
        None => Item {
            start,
            end: start,
            step,
            plain: true,
        },
        // `5/15`: from 5 to the end of the field, as in Quartz
        Some(_) => Item {
            start,
            end: max_of_all.max(start),
            step,
            plain: false,
        },
    })
}

fn backwards(low: &str, high: &str, field: CronField) -> String {
    let (min, max) = field.range();
    match field {
        CronField::DayOfWeek => format!("runs backwards; write {low}-6,0-{high}"),
        _ => format!("runs backwards; write {low}-{max},{min}-{high}"),
    }
}

fn parse_step(item: &str, text: &str, field: CronField, span: u32) -> Result<u32, ScheduleError> {
    let Some(step) = number(text) else {
        return Err(fault(field, item, "needs a number behind the slash, as in */15"));
    };
    if step == 0 {
        return Err(fault(field, item, "has a step of 0; the smallest step is 1"));
    }
    if step > span {
        return Err(fault(
            field,
            item,
            format!("has a step of {step}, over the field's whole range; the largest step is {span}"),
        ));
    }
    Ok(step)
}

fn parse_value(item: &str, text: &str, field: CronField) -> Result<u32, ScheduleError> {
    let (min, max) = field.range();
    let (names, first) = field.names();
    if let Some(place) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(u32::try_from(place).unwrap_or_default() + first);
    }
    match number(text) {
        Some(value) if (min..=max).contains(&value) => Ok(value),
        Some(value) => Err(fault(
            field,
            item,
            format!("has {value}, which is out of range; write {min} to {max}"),
        )),
        None => Err(fault(field, item, not_a_value(text, field))),
    }
}

/// Decimal digits only: no sign, no blanks.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn not_a_value(text: &str, field: CronField) -> String {
    let (min, max) = field.range();
    let upper = text.to_ascii_uppercase();
    if text.is_empty() {
        return format!("lacks a value; write {min} to {max}, a range such as {min}-{max}, or *");
    }
    if upper.contains('L') && field == CronField::DayOfMonth {
        return "is not understood; L stands alone or in a list and means the last day of the month".to_owned();
    }
    if upper.contains('W') && field == CronField::DayOfMonth {
        return "asks for the nearest working day, which is not supported; write a day from 1 to 31, or L".to_owned();
    }
    if upper.contains('#') || (upper.ends_with('L') && field == CronField::DayOfWeek) {
        return "asks for the n-th weekday of a month, which is not supported; write a weekday (MON) in day-of-week, or a day in day-of-month".to_owned();
    }
    if text == "?" {
        return "stands in the day fields only; write *".to_owned();
    }
    match field {
        CronField::Month => format!("is not a month; write {min} to {max} or JAN to DEC"),
        CronField::DayOfWeek => format!("is not a weekday; write {min} to {max} (0 and 7 are Sunday) or SUN to SAT"),
        _ => format!("is not a number; write {min} to {max}, or *"),
    }
}
