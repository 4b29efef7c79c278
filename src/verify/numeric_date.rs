//! Time as a JWT writes it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A point in time as JSON Web Tokens write it: seconds since 1970-01-01T00:00:00Z
/// ([RFC 7519 §2](https://www.rfc-editor.org/rfc/rfc7519#section-2)).
///
/// It may lie before 1970 (present QStash tokens carry `"nbf": -62135596800`, Go's zero time) and
/// may have a fraction. Arithmetic on it saturates.
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
    /// Whole seconds since the epoch, rounded down. Saturates at the ends of `i64`.
    pub fn as_secs(self) -> i64 {
        let seconds = self.nanos.div_euclid(NANOS_PER_SECOND);
        seconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    pub(crate) fn from_whole(seconds: i64) -> Self {
        // 2^63 × 10^9 is far inside `i128`.
        Self { nanos: i128::from(seconds) * NANOS_PER_SECOND }
    }

    /// Reads a JSON number. `None` where it is no number at all.
    pub(crate) fn from_json(number: &serde_json::Number) -> Option<Self> {
        if let Some(seconds) = number.as_i64() {
            return Some(Self::from_whole(seconds));
        }
        if let Some(seconds) = number.as_u64() {
            return Some(Self::from_secs(seconds.into()));
        }
        // Float to integer casts saturate, and JSON has neither NaN nor infinity.
        let seconds = number.as_f64()?;
        let whole = Self::from_secs(seconds.trunc() as i128);
        let fraction = (seconds.fract() * NANOS_PER_SECOND as f64) as i128;
        Some(Self { nanos: whole.nanos.saturating_add(fraction) })
    }

    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        Self { nanos: self.nanos.saturating_add(nanos(duration)) }
    }

    pub(crate) fn saturating_sub(self, duration: Duration) -> Self {
        Self { nanos: self.nanos.saturating_sub(nanos(duration)) }
    }

    fn from_secs(seconds: i128) -> Self {
        Self { nanos: seconds.saturating_mul(NANOS_PER_SECOND) }
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

/// Seconds since the epoch, as they stand in a token.
impl fmt::Display for NumericDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
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

// A `Duration` has at most 2^64 seconds: far inside `i128`.
fn nanos(duration: Duration) -> i128 {
    duration.as_nanos() as i128
}
