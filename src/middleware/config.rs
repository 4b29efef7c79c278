//! The layer's configuration, and the checks that need no body.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, request::Parts};

use super::{rejection::Rejection, trace::Tracing};
use crate::{
    delivery::single_value,
    keys::SigningKeysHandle,
    public_url::{Comparison, PublicUrl},
    replay::{
        ReplayGuard,
        guard::{Delivery, Reserving},
    },
    verify::{
        BodyVerifier, Claims, NumericDate, SignedToken, Token, VerifyError, mac_prefix,
        verify_claims,
    },
};

const SIGNATURE: HeaderName = HeaderName::from_static("upstash-signature");

pub(super) type Clock = dyn Fn() -> SystemTime + Send + Sync;
pub(super) type RejectionResponse = dyn Fn(&Rejection) -> Response<Bytes> + Send + Sync;

#[derive(Clone)]
pub(super) struct Config {
    pub(super) accounts: Vec<Account>,
    pub(super) clock_tolerance: Duration,
    pub(super) body_limit: usize,
    pub(super) drain_limit: usize,
    pub(super) drain_timeout: Duration,
    pub(super) clock: Arc<Clock>,
    pub(super) rejection_response: Arc<RejectionResponse>,
    pub(super) replay_guard: Option<ReplayGuard>,
    pub(super) tracing: Tracing,
}

/// Keys, and the URL that they may sign deliveries to.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) keys: SigningKeysHandle,
    pub(super) public_url: PublicUrl,
}

impl Config {
    /// Runs every check that doesn't need the body.
    pub(super) fn verify_parts(&self, parts: &Parts) -> Result<BodyVerifier, Rejection> {
        let keys = || self.accounts.iter().map(|account| account.keys.load().len()).sum();
        let token =
            Token::parse(signature(&parts.headers)?, keys).map_err(Rejection::Verification)?;
        let mut rejection = None;
        for account in &self.accounts {
            let keys = account.keys.load();
            let Some(signed) = token.authenticate(&keys) else { continue };
            match self.verify_claims(&signed, &account.public_url, parts) {
                Ok(verifier) => return Ok(verifier),
                // Another account may have the same key for another URL.
                Err(error) => rejection = rejection.or(Some(error)),
            }
        }
        Err(rejection.unwrap_or(Rejection::Verification(VerifyError::SignatureMismatch)))
    }

    fn verify_claims(
        &self,
        token: &SignedToken<'_, '_>,
        public_url: &PublicUrl,
        parts: &Parts,
    ) -> Result<BodyVerifier, Rejection> {
        let mut comparison = Comparison::Different;
        let is_subject = |subject: &str| {
            comparison = public_url.compare(subject, parts);
            comparison == Comparison::Equal
        };
        let verifier = verify_claims(token, is_subject, || (self.clock)(), self.clock_tolerance);
        verifier.map_err(|error| match error.with_expected(|| public_url.expected(parts)) {
            VerifyError::SubjectMismatch { .. } if comparison == Comparison::RoutedElsewhere => {
                Rejection::RoutingMismatch
            }
            VerifyError::SubjectMismatch { .. } if comparison == Comparison::Outside => {
                Rejection::PathNotAllowed
            }
            VerifyError::SubjectMismatch { expected, .. } if expected.is_empty() => {
                Rejection::UnknownPublicUrl
            }
            error => Rejection::Verification(error),
        })
    }

    /// Reserves the token of a verified delivery, if there is a guard.
    ///
    /// The token may have expired while the body was read. Then it is rejected, since the guard forgets
    /// a token that nothing accepts any more, and a captured delivery with a slow body would be
    /// processed again.
    pub(super) fn reserve(
        &self,
        parts: &Parts,
        claims: &Claims,
        body_hash: &[u8; 32],
    ) -> Result<Option<Reserving>, Rejection> {
        let Some(guard) = &self.replay_guard else { return Ok(None) };
        let now = NumericDate::from((self.clock)());
        let expires_at = claims.expires_at();
        if now.saturating_sub(self.clock_tolerance) >= expires_at {
            return Err(Rejection::Verification(VerifyError::Expired { expires_at, now }));
        }
        let message_id = match guard.remembers_messages() {
            true => single_value(&parts.headers, "upstash-message-id"),
            false => None,
        };
        // Decoded once more, and only with a guard, so that the response future stays as small without.
        let mac = signature(&parts.headers).ok().and_then(mac_prefix).expect("verified before");
        Ok(Some(guard.reserve(&Delivery {
            mac,
            now,
            expires_at,
            issued_at: claims.issued_at(),
            tolerance: self.clock_tolerance,
            message_id: message_id.map(str::as_bytes),
            key_label: claims.key_label(),
            subject: claims.subject(),
            body_hash,
        })))
    }

    pub(super) fn respond(&self, rejection: Rejection) -> Response<Bytes> {
        let mut response = (self.rejection_response)(&rejection);
        if response.status().is_success() {
            *response.status_mut() = rejection.status();
        }
        response.extensions_mut().insert(rejection);
        response
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("accounts", &self.accounts)
            .field("clock_tolerance", &self.clock_tolerance)
            .field("body_limit", &self.body_limit)
            .field("drain_limit", &self.drain_limit)
            .field("drain_timeout", &self.drain_timeout)
            .field("replay_guard", &self.replay_guard)
            .finish_non_exhaustive()
    }
}

fn signature(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut signatures = headers.get_all(SIGNATURE).iter();
    let signature = signatures.next().ok_or(Rejection::MissingSignature)?;
    if signatures.next().is_some() {
        return Err(Rejection::DuplicateSignature);
    }
    match signature.to_str() {
        Ok("") => Err(Rejection::EmptySignature),
        Ok(signature) => Ok(signature),
        Err(_) => Err(Rejection::NonAsciiSignature),
    }
}
