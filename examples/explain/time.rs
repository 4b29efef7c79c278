//! Times as dates, in both directions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn distance(time: i64, now: i64) -> String {
    let seconds = time.saturating_sub(now);
    let (number, unit) = match seconds.unsigned_abs() {
        0 => return "(now)".into(),
        n @ 1..120 => (n, "s"),
        n @ 120..7_200 => (n / 60, "min"),
        n @ 7_200..172_800 => (n / 3_600, "h"),
        n @ 172_800..63_072_000 => (n / 86_400, "days"),
        n => (n / 31_557_600, "years"),
    };
    if seconds > 0 { format!("(in {number} {unit})") } else { format!("({number} {unit} ago)") }
}

pub(crate) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Converts Unix seconds. Those before 1970 become 1970.
pub(crate) fn system_time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(seconds.try_into().unwrap_or_default());
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// Formats as RFC 3339, in UTC.
pub(crate) fn format_time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The proleptic Gregorian calendar, with years that begin in March.
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Parses Unix seconds, or RFC 3339 with `Z` or an offset. A fraction is dropped.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let end = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(end);
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let [hours, minutes] = numbers(&zone[1..], ':')?;
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            sign * (hours * 3_600 + minutes * 60)
        }
    };
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let (years, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let days = years * 365 + leap_days + (153 * march_month + 2) / 5 + day - 1 - 719_468;
    in_range.then_some(days * 86_400 + hour * 3_600 + minute * 60 + second - offset)
}

/// Parses exactly `N` numbers, of up to four digits each.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let number = |part: &str| {
        let digits = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok())?
    };
    let numbers: Option<Vec<i64>> = text.split(separator).map(number).collect();
    numbers?.try_into().ok()
}
