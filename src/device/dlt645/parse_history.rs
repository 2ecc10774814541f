//! Reading what a model keeps of the past.

use super::history::{Kind, Numbered, PastPoint, PastProfile};
use super::parse::{advise, identifier};
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields};
use crate::device::modbus::parse_point::{factor, measurand};
use crate::protocol::dlt645::items::{self, Form, Format};
use crate::protocol::dlt645::{Di, Edition};

pub(super) fn history(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, edition: Edition) -> Option<PastProfile> {
    let text = table.text(faults, "what");
    let text = table.need(faults, "what", text);
    let kind = text.and_then(|at| match at.value {
        "daily" => Some(Kind::Daily),
        "settlement" => Some(Kind::Settlement),
        other => {
            let help = advise(other, &["daily", "settlement"]);
            faults.add(&at.span, format!("unknown past `{other}`"), help);
            None
        }
    });
    let max = table.integer(faults, "max", 1..=254);
    let max = table.need(faults, "max", max);
    let time = numbered(faults, &mut table, "time", edition);
    let days = table.texts(faults, "days");
    let days: Vec<Di> = days.iter().filter_map(|at| day(faults, at, edition)).collect();
    let tables = table.tables(faults, "point");
    if tables.is_empty() {
        faults.add(&table.span, "nothing is kept of the past", "add `point = [ … ]`");
    }
    let most = max.as_ref().and_then(|at| u8::try_from(at.value).ok()).unwrap_or(1);
    let points: Vec<PastPoint> = tables
        .into_iter()
        .filter_map(|table| point(faults, table, edition, most))
        .collect();
    if let Some(di) = time.as_ref().and_then(|time| time.nth(1))
        && !matches!(
            items::definition(di, 0).map(|item| item.format),
            Some(Format::Time(Form::ToMinute))
        )
    {
        faults.add(
            &table.span_of("time"),
            format!("{di} is not a time"),
            "name where the time of the freeze is",
        );
    }
    if time.is_none() && days.is_empty() {
        faults.add(
            &table.span,
            "nothing says when it was",
            "add `time` or, for settlements, `days`",
        );
    }
    table.finish(faults);
    Some(PastProfile {
        kind: kind?,
        max: most,
        time,
        days,
        points,
    })
}

fn day(faults: &mut Faults<'_>, at: &At<&str>, edition: Edition) -> Option<Di> {
    let di = identifier(faults, at, edition)?;
    let format = items::definition(di, 0).map(|item| item.format);
    if format != Some(Format::Time(Form::DayHour)) {
        faults.add(
            &at.span,
            format!("{di} is not a settlement day"),
            "name 04000B01 to 04000B03, or C117",
        );
        return None;
    }
    Some(di)
}

fn point(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, edition: Edition, max: u8) -> Option<PastPoint> {
    let measurand = measurand(faults, &mut table);
    let di = numbered(faults, &mut table, "di", edition);
    let di = table.need(faults, "di", di);
    let index = table.integer(faults, "item", 0..=63).map_or(0, |at| at.value);
    let span = table.span_of("di");
    table.finish(faults);
    let (measurand, di, index) = (measurand?, di?, usize::try_from(index).ok()?);
    for back in [1, max] {
        let item = di.nth(back).and_then(|di| items::definition(di, index));
        if !matches!(
            item.map(|item| item.format),
            Some(Format::Number { .. } | Format::Demand { .. })
        ) {
            let what = format!("item {index} of number {back} is not a number of the table");
            faults.add(&span, what, "correct `di`, `item` or `max`");
            return None;
        }
    }
    let unit = di
        .nth(1)
        .and_then(|di| items::definition(di, index))
        .map_or("1", |item| item.unit);
    let unit = At { value: unit, span };
    let factor = factor(faults, &measurand.value, None, &unit)?;
    Some(PastPoint {
        measurand: measurand.value,
        di,
        item: index,
        factor,
    })
}

/// `"000100nn"`, or a list of one identifier for each.
fn numbered(
    faults: &mut Faults<'_>,
    table: &mut Fields<'_, '_>,
    key: &'static str,
    edition: Edition,
) -> Option<Numbered> {
    let texts = table.texts(faults, key);
    if let [At { value, span }] = texts.as_slice()
        && let Some(front) = value.strip_suffix("nn")
    {
        let whole = format!("{front}00");
        let at = At {
            value: whole.as_str(),
            span: span.clone(),
        };
        return identifier(faults, &at, edition).map(Numbered::LowByte);
    }
    let list: Vec<Di> = texts.iter().filter_map(|at| identifier(faults, at, edition)).collect();
    (!list.is_empty()).then_some(Numbered::Listed(list))
}
