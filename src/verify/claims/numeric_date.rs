//! Time as a JSON Web Token represents it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A point in time as JSON Web Tokens represent it: seconds since 1970-01-01T00:00:00Z
/// ([RFC 7519 §2](https://www.rfc-editor.org/rfc/rfc7519#section-2)).
///
/// It may lie before 1970 (QStash's tokens have `"nbf": -62135596800`, Go's zero time) and may have a
/// fraction. Arithmetic on it saturates.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_qstash::NumericDate;
///
/// let date = NumericDate::from(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
/// assert_eq!(date.as_secs(), 1_700_000_000);
/// assert_eq!(date.to_string(), "1700000000");
/// ```
// Not `SystemTime`: that cannot hold the year 1 on Windows, and panics where this saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumericDate {
    nanos: i128,
}

impl NumericDate {
    /// Returns the whole seconds since the epoch, rounded down. Saturates at the ends of `i64`.
    pub fn as_secs(self) -> i64 {
        let seconds = self.nanos.div_euclid(NANOS_PER_SECOND);
        i64::try_from(seconds).unwrap_or(if seconds.is_negative() { i64::MIN } else { i64::MAX })
    }

    /// Creates a date from seconds since the epoch.
    pub(crate) fn from_secs(seconds: impl Into<i128>) -> Self {
        Self { nanos: seconds.into().saturating_mul(NANOS_PER_SECOND) }
    }

    /// Converts a JSON number. Returns `None` where it is out of the range of `f64`.
    pub(crate) fn from_json(number: &serde_json::Number) -> Option<Self> {
        if let Some(seconds) = number.as_i64() {
            return Some(Self::from_secs(seconds));
        }
        if let Some(seconds) = number.as_u64() {
            return Some(Self::from_secs(seconds));
        }
        Some(Self::from_float(number.as_f64()?))
    }

    #[expect(clippy::as_conversions, reason = "a cast saturates, and JSON has no NaN")]
    fn from_float(seconds: f64) -> Self {
        let whole = Self::from_secs(seconds.trunc() as i128);
        let fraction = (seconds.fract() * 1e9) as i128;
        Self { nanos: whole.nanos.saturating_add(fraction) }
    }

    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        Self { nanos: self.nanos.saturating_add(nanos(duration)) }
    }

    pub(crate) fn saturating_sub(self, duration: Duration) -> Self {
        Self { nanos: self.nanos.saturating_sub(nanos(duration)) }
    }
}

impl From<SystemTime> for NumericDate {
    fn from(time: SystemTime) -> Self {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        };
        Self { nanos }
    }
}

/// The error returned when a [`NumericDate`] is outside the range of [`SystemTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NumericDateOutOfRange;

impl fmt::Display for NumericDateOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the date is outside the range of this system's clock")
    }
}

impl std::error::Error for NumericDateOutOfRange {}

/// Converts a date of a token, such as [`Claims::expires_at`](crate::Claims::expires_at).
///
/// # Errors
///
/// [`NumericDateOutOfRange`] for a date that the system's clock can't represent: `1e300`, and on
/// Windows the year 1 of `nbf`.
impl TryFrom<NumericDate> for SystemTime {
    type Error = NumericDateOutOfRange;

    fn try_from(date: NumericDate) -> Result<Self, NumericDateOutOfRange> {
        let magnitude = date.nanos.unsigned_abs();
        let per_second = NANOS_PER_SECOND.unsigned_abs();
        // Whole seconds that `u64` can't hold are beyond every clock.
        let seconds = u64::try_from(magnitude / per_second).map_err(|_| NumericDateOutOfRange)?;
        let nanos =
            u32::try_from(magnitude % per_second).expect("less than a second's nanoseconds");
        let distance = Duration::new(seconds, nanos);
        let time = match date.nanos.is_negative() {
            true => UNIX_EPOCH.checked_sub(distance),
            false => UNIX_EPOCH.checked_add(distance),
        };
        time.ok_or(NumericDateOutOfRange)
    }
}

/// Formats the seconds since the epoch, as they stand in a token.
impl fmt::Display for NumericDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos.is_negative() { "-" } else { "" };
        let nanos = self.nanos.unsigned_abs();
        let per_second = NANOS_PER_SECOND.unsigned_abs();
        write!(f, "{sign}{}", nanos / per_second)?;
        match nanos % per_second {
            0 => Ok(()),
            fraction => write!(f, ".{}", format!("{fraction:09}").trim_end_matches('0')),
        }
    }
}

impl fmt::Debug for NumericDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumericDate({self})")
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).expect("a `Duration` has at most 2^64 seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_convert_to_system_time_and_back() {
        for seconds in [0, 1_700_000_000, -1, -1_000_000_000] {
            let time = SystemTime::try_from(NumericDate::from_secs(seconds)).expect("in range");
            assert_eq!(NumericDate::from(time), NumericDate::from_secs(seconds));
        }
        let half = NumericDate::from_float(-0.5);
        let time = UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(SystemTime::try_from(half), Ok(time));
    }

    #[test]
    fn dates_beyond_the_clock_are_errors() {
        for seconds in [1e300, -1e300, 1e25] {
            let date = NumericDate::from_float(seconds);
            assert_eq!(SystemTime::try_from(date), Err(NumericDateOutOfRange));
        }
        let text = NumericDateOutOfRange.to_string();
        assert_eq!(text, "the date is outside the range of this system's clock");
    }
}
