//! Times that come again: the five fields of cron, in UTC.

use super::time::{Millis, civil};

/// Days looked through for the next time: February 29th comes within eight years.
const DAYS: i64 = 366 * 9;

/// When something is due again and again. Each field is a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of day were narrowed down: then either is enough.
    either_day: bool,
}

impl Cron {
    /// Reads `minute hour day month weekday`: numbers, `*`, `a-b`, lists and `/n`. Sunday is 0 and 7.
    pub fn parse(text: &str) -> Option<Cron> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return None };
        let week = field(weekdays, 0, 7)?;
        let cron = Cron {
            minutes: field(minutes, 0, 59)?,
            hours: field(hours, 0, 23)?,
            days: field(days, 1, 31)?,
            months: field(months, 1, 12)?,
            weekdays: (week | week >> 7) & 0x7f,
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        };
        // The 31st of February never comes.
        cron.next(0).map(|_| cron)
    }

    /// The first time after `after`.
    pub fn next(&self, after: Millis) -> Option<Millis> {
        let minute = after.div_euclid(60_000) + 1;
        let (today, first) = (minute.div_euclid(1440), minute.rem_euclid(1440));
        for day in today..today.saturating_add(DAYS) {
            if !self.is_day(day) {
                continue;
            }
            let from = if day == today { first } else { 0 };
            let due = (from..1440).find(|minute| has(self.hours, minute / 60) && has(self.minutes, minute % 60));
            if let Some(minute) = due {
                return (day * 1440 + minute).checked_mul(60_000);
            }
        }
        None
    }

    fn is_day(&self, day: i64) -> bool {
        let (_, month, of_month) = civil(day);
        // 1970-01-01 was a Thursday.
        let (date, week) = (has(self.days, of_month), has(self.weekdays, (day + 4).rem_euclid(7)));
        has(self.months, month) && if self.either_day { date || week } else { date && week }
    }
}

fn has(set: u64, number: i64) -> bool {
    u32::try_from(number).is_ok_and(|number| number < 64 && set >> number & 1 == 1)
}

fn field(text: &str, least: u32, most: u32) -> Option<u64> {
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, number(step).filter(|step| 0 < *step)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // As cron reads it: from there on.
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from < least || most < to || to < from {
            return None;
        }
        for one in (from..=to).step_by(usize::try_from(step).ok()?) {
            set |= 1 << one;
        }
    }
    Some(set)
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || 2 < text.len() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::{iso, parse_iso};

    #[test]
    fn the_next_time_is_the_first_that_fits() {
        for (cron, after, expected) in [
            ("* * * * *", "2025-10-09T08:53:20Z", "2025-10-09T08:54:00.000Z"),
            ("*/15 * * * *", "2025-10-09T08:45:00Z", "2025-10-09T09:00:00.000Z"),
            ("0 9 * * 1-5", "2025-10-10T09:00:00Z", "2025-10-13T09:00:00.000Z"),
            ("30 23 31 12 *", "2025-12-31T23:30:00Z", "2026-12-31T23:30:00.000Z"),
            ("0 0 29 2 *", "2025-01-01T00:00:00Z", "2028-02-29T00:00:00.000Z"),
            ("0 12 13 * 5", "2025-10-09T00:00:00Z", "2025-10-10T12:00:00.000Z"),
            ("5 4 * * 7", "2025-10-09T00:00:00Z", "2025-10-12T04:05:00.000Z"),
            ("0,30 8-9/1 * * *", "2025-10-09T08:53:20Z", "2025-10-09T09:00:00.000Z"),
        ] {
            let next = Cron::parse(cron).unwrap().next(parse_iso(after).unwrap()).unwrap();
            assert_eq!(iso(next), expected, "{cron}");
        }
    }

    #[test]
    fn what_is_no_cron_is_refused() {
        for bad in ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"] {
            assert_eq!(Cron::parse(bad), None, "{bad}");
        }
        for bad in
            ["*/0 * * * *", "5-1 * * * *", "a * * * *", "-1 * * * *", "1,,2 * * * *", "0 0 31 2 *", "999 * * * *", "*/ * * * *"]
        {
            assert_eq!(Cron::parse(bad), None, "{bad}");
        }
    }
}
