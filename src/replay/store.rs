//! What a store of tokens does, and the values it deals in.

use std::{error::Error, fmt, num::NonZeroU128, sync::Arc, time::Duration};

use crate::verify::NumericDate;

/// Any error of a store. It is logged, and never part of a response.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Remembers tokens and messages for a [`ReplayGuard`](super::ReplayGuard).
///
/// Implement it to keep them in a database that this crate has no store for; write `async fn`, and
/// run `check_replay_store` (feature `testing`) on it. For one token:
///
/// ```text
///             reserve               confirm
///   unknown ──────────▶ in flight ──────────▶ done ──▶ (lifetime over) unknown
///      ▲                    │ release, by its holder
///      └────────────────────┘
/// ```
///
/// Each operation must be atomic: of two machines that reserve one key at the same time, one gets
/// [`Reserve::Reserved`]. Put a time limit around each; the guard sets none.
///
/// # Examples
///
/// A store over one table of an SQL database, with the statements alone:
///
/// ```
/// use tower_qstash::{BoxError, Holder, Lifetime, NumericDate, ReplayKey, ReplayStore, Reserve};
///
/// # struct Database;
/// # struct Row { holder: Option<String> }
/// # impl Database {
/// #     async fn one(&self, _: &str, _: &[&str]) -> Result<Row, BoxError> { unimplemented!() }
/// #     async fn run(&self, _: &str, _: &[&str]) -> Result<(), BoxError> { unimplemented!() }
/// # }
/// struct SqlStore(Database);
///
/// impl ReplayStore for SqlStore {
///     async fn reserve(
///         &self,
///         key: ReplayKey,
///         holder: Holder,
///         lifetime: Lifetime,
///     ) -> Result<Reserve, BoxError> {
///         let (now, until) = (lifetime.now().as_secs(), lifetime.until().as_secs());
///         // One statement, so that it is atomic: takes the place if it is free or its time is over,
///         // and returns who has it now. A null `holder` means that the token is done.
///         let row = self
///             .0
///             .one(
///                 "INSERT INTO tokens (key, holder, until) VALUES ($1, $2, $3) ON CONFLICT (key) \
///                  DO UPDATE SET holder = CASE WHEN tokens.until <= $4 THEN $2 ELSE tokens.holder END, \
///                  until = CASE WHEN tokens.until <= $4 THEN $3 ELSE tokens.until END RETURNING holder",
///                 &[&key.to_hex(), &holder.to_hex(), &until.to_string(), &now.to_string()],
///             )
///             .await?;
///         Ok(match row.holder {
///             None => Reserve::Done,
///             Some(current) if current == holder.to_hex() => Reserve::Reserved,
///             Some(_) => Reserve::InFlight,
///         })
///     }
///
///     async fn confirm(&self, key: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
///         // Whoever holds it, and even if nobody does: the token is done.
///         let until = lifetime.until().as_secs().to_string();
///         let statement = "INSERT INTO tokens (key, holder, until) VALUES ($1, NULL, $2) \
///                          ON CONFLICT (key) DO UPDATE SET holder = NULL, until = $2";
///         self.0.run(statement, &[&key.to_hex(), &until]).await
///     }
///
///     async fn release(&self, key: ReplayKey, holder: Holder) -> Result<(), BoxError> {
///         let statement = "DELETE FROM tokens WHERE key = $1 AND holder = $2";
///         self.0.run(statement, &[&key.to_hex(), &holder.to_hex()]).await
///     }
///
///     async fn remember(&self, message: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
///         self.confirm(message, lifetime).await
///     }
///
///     async fn is_remembered(&self, message: ReplayKey, now: NumericDate) -> Result<bool, BoxError> {
///         let statement = "SELECT CASE WHEN EXISTS (SELECT FROM tokens WHERE key = $1 AND until > $2) \
///                          THEN 'yes' END AS holder";
///         let row = self.0.one(statement, &[&message.to_hex(), &now.as_secs().to_string()]).await?;
///         Ok(row.holder.is_some())
///     }
/// }
/// ```
pub trait ReplayStore: Send + Sync + 'static {
    /// Reserves a token, unless another holder has it or it is done.
    ///
    /// To the holder that has it already, this says [`Reserve::Reserved`] again, so that a call whose
    /// reply was lost can be repeated.
    ///
    /// # Errors
    ///
    /// Any error means that the outcome is unknown. The guard then calls
    /// [`release_in_background`](Self::release_in_background) and refuses the delivery, which is
    /// retried, or lets it through with
    /// [`open_when_down`](super::ReplayGuard::open_when_down).
    fn reserve(
        &self,
        key: ReplayKey,
        holder: Holder,
        lifetime: Lifetime,
    ) -> impl Future<Output = Result<Reserve, BoxError>> + Send;

    /// Marks a token as done until the end of its lifetime, unconditionally: whoever holds it, and
    /// also if the store has forgotten it. Confirming twice changes nothing.
    fn confirm(
        &self,
        key: ReplayKey,
        lifetime: Lifetime,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Makes a token unknown again if this holder has it, and does nothing otherwise. A token that is
    /// done stays done.
    fn release(
        &self,
        key: ReplayKey,
        holder: Holder,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Remembers a message until the end of this lifetime. Called only with
    /// [`remember_messages`](super::ReplayGuard::remember_messages).
    ///
    /// Messages may be kept together with tokens: their keys are hashes of other things.
    fn remember(
        &self,
        message: ReplayKey,
        lifetime: Lifetime,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Returns whether a message is remembered. Called only with
    /// [`remember_messages`](super::ReplayGuard::remember_messages).
    fn is_remembered(
        &self,
        message: ReplayKey,
        now: NumericDate,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// Releases a token without a caller that waits for it: after a panic, or after a `reserve` that
    /// failed, which may have reserved the token all the same.
    ///
    /// By default the future of [`release`](Self::release) is polled once and dropped, since this
    /// trait knows no runtime. Override it to spawn the release on yours. Where the release doesn't
    /// happen, the token stays in flight until the end of its lifetime.
    fn release_in_background(self: Arc<Self>, key: ReplayKey, holder: Holder) {
        let mut release = std::pin::pin!(self.release(key, holder));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        drop(release.as_mut().poll(&mut context));
    }
}

/// What a store says to [`ReplayStore::reserve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reserve {
    /// The token is this holder's now, or was already.
    Reserved,
    /// Another holder has it.
    InFlight,
    /// It was confirmed.
    Done,
    /// The store has forgotten what it knew at the time when the token was issued, and can't tell
    /// whether it was used. See [`Lifetime::issued_after`].
    Unknowable,
}

/// What a store knows a token or a message by: 16 bytes that no two of them share.
///
/// For a token they come from its signature, as it was verified, and for a message from a hash; in
/// both cases the guard's namespace is mixed in. `Debug` doesn't show them.
///
/// ```
/// use tower_qstash::ReplayKey;
///
/// let key = ReplayKey::from_bytes([0xAB; 16]);
/// assert_eq!(key.to_bytes(), [0xAB; 16]);
/// assert_eq!(key.to_hex(), "abababababababababababababababab");
/// assert_eq!(format!("{key:?}"), "ReplayKey(..)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplayKey(pub(super) u128);

impl ReplayKey {
    /// Creates a key, to test a store.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Returns the bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Returns the 32 lower-case hexadecimal digits. Nobody can forge a token with them, but they
    /// don't belong in a log.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

impl fmt::Debug for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayKey(..)")
    }
}

/// One arrival of one token: a random number, so that only the arrival that reserved a token
/// releases it, whatever the store lost in between.
///
/// ```
/// use std::num::NonZeroU128;
/// use tower_qstash::Holder;
///
/// let holder = Holder::new(NonZeroU128::MIN);
/// assert_eq!(holder.get(), NonZeroU128::MIN);
/// assert_eq!(holder.to_hex(), "00000000000000000000000000000001");
/// ```
// Not zero, so that `Option<Holder>` has the same size.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder(NonZeroU128);

impl Holder {
    /// Creates a holder, to test a store. The guard's are random.
    pub const fn new(number: NonZeroU128) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> NonZeroU128 {
        self.0
    }

    /// Returns the number's 32 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holder({:032x})", self.0)
    }
}

/// How long a store keeps something, in whole seconds by the layer's clock.
///
/// A store that expires entries by itself uses [`remaining`](Self::remaining), and one that doesn't
/// compares [`until`](Self::until) with a later [`now`](Self::now).
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_qstash::Lifetime;
///
/// let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// let lifetime = Lifetime::new(now.into(), (now + Duration::from_millis(359_500)).into());
/// assert_eq!(lifetime.now().as_secs(), 1_700_000_000);
/// assert_eq!(lifetime.until().as_secs(), 1_700_000_360);
/// assert_eq!(lifetime.remaining(), Duration::from_secs(360));
///
/// let lifetime = lifetime.with_issued_at(now.into());
/// assert!(lifetime.issued_after((now - Duration::from_secs(1)).into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub(super) now: i64,
    pub(super) until: i64,
    /// When the token was issued at the earliest, if it says so.
    issued_at: Option<NumericDate>,
}

impl Lifetime {
    /// Creates a lifetime, to test a store. `now` is rounded down to the second and `until` up.
    pub fn new(now: NumericDate, until: NumericDate) -> Self {
        let whole = until.as_secs();
        let until =
            if NumericDate::from_secs(whole) == until { whole } else { whole.saturating_add(1) };
        Self { now: now.as_secs(), until, issued_at: None }
    }

    /// Sets when the token was issued, at the earliest: its `iat`, less the clock tolerance.
    pub fn with_issued_at(self, earliest: NumericDate) -> Self {
        Self { issued_at: Some(earliest), ..self }
    }

    /// The same end and issue, seen from another time.
    pub(crate) fn at(self, now: NumericDate) -> Self {
        Self { now: now.as_secs(), ..self }
    }

    /// Returns the time of the call.
    pub fn now(&self) -> NumericDate {
        NumericDate::from_secs(self.now)
    }

    /// Returns the first second at which the entry is no longer needed.
    pub fn until(&self) -> NumericDate {
        NumericDate::from_secs(self.until)
    }

    /// Returns the time from `now` to `until`. It is never less than one second, nor more than a
    /// hundred years, whatever the token says, since databases add it to their own clock.
    pub fn remaining(&self) -> Duration {
        const CENTURY: u64 = 100 * 366 * 24 * 60 * 60;
        let seconds = u64::try_from(self.until.saturating_sub(self.now)).unwrap_or(0);
        Duration::from_secs(seconds.clamp(1, CENTURY))
    }

    /// Returns whether the token was certainly issued after this time, as far as the clocks can be
    /// trusted; `false` for a token that doesn't say when it was issued.
    ///
    /// A store that can lose its content may keep the time since which it has lost nothing, and say
    /// [`Reserve::Unknowable`] for a token that wasn't issued after it.
    pub fn issued_after(&self, time: NumericDate) -> bool {
        self.issued_at.is_some_and(|issued_at| issued_at > time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: i64) -> NumericDate {
        NumericDate::from_secs(seconds)
    }

    #[test]
    fn a_lifetime_is_clamped_at_the_ends_of_the_range() {
        let remaining = |now, until| Lifetime::new(date(now), date(until)).remaining().as_secs();
        assert_eq!(remaining(0, 360), 360);
        assert_eq!(remaining(360, 0), 1);
        assert_eq!(remaining(i64::MAX, i64::MIN), 1);
        assert_eq!(remaining(i64::MIN, i64::MAX), 100 * 366 * 86400);
        assert_eq!(remaining(0, i64::MAX), 100 * 366 * 86400);
    }

    #[test]
    fn a_lifetime_is_rounded_up_and_saturates() {
        let half = Duration::from_millis(500);
        let lifetime = Lifetime::new(date(7).saturating_add(half), date(9).saturating_add(half));
        assert_eq!((lifetime.now(), lifetime.until()), (date(7), date(10)));
        let last = date(i64::MAX).saturating_add(half);
        assert_eq!(Lifetime::new(date(7), last).until(), date(i64::MAX));
    }

    #[test]
    fn only_a_later_token_was_issued_after_the_birth() {
        let lifetime = Lifetime::new(date(100), date(460));
        assert!(!lifetime.issued_after(date(i64::MIN)), "no iat, nothing certain");
        let lifetime = lifetime.with_issued_at(date(100));
        assert!(lifetime.issued_after(date(99)));
        assert!(!lifetime.issued_after(date(100)));
    }

    #[test]
    fn keys_and_holders_have_32_hexadecimal_digits() {
        let bytes = std::array::from_fn(|index| u8::try_from(index).expect("a small number"));
        let key = ReplayKey::from_bytes(bytes);
        assert_eq!(key.to_bytes(), bytes);
        assert_eq!(key.to_hex(), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(format!("{key:?}"), "ReplayKey(..)");
        let holder = Holder::new(NonZeroU128::MIN);
        assert_eq!(holder.to_hex(), "00000000000000000000000000000001");
        assert_eq!(format!("{holder:?}"), "Holder(00000000000000000000000000000001)");
    }

    #[test]
    fn an_optional_holder_needs_no_further_byte() {
        assert_eq!(size_of::<Option<Holder>>(), 16);
    }
}
