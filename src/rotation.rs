//! Replacing the signing keys of a running service.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::SigningKeys;

/// Replaces the keys of every service that a layer made, without a restart.
///
/// Every clone of the service checks its next request with the new keys; a request whose signature
/// was already checked goes on.
///
/// ```
/// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
///
/// let keys = SigningKeys::new("sig_current", "sig_next")?;
/// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// let handle = layer.signing_keys_handle();
///
/// // After a roll, wherever the new keys come from:
/// handle.replace(SigningKeys::new("sig_next", "sig_new")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SigningKeysHandle {
    keys: Arc<ArcSwap<SigningKeys>>,
}

impl SigningKeysHandle {
    pub(crate) fn new(keys: SigningKeys) -> Self {
        Self { keys: Arc::new(ArcSwap::from_pointee(keys)) }
    }

    /// From now on these keys are tried, and none of those before: give all of them, other accounts'
    /// too.
    pub fn replace(&self, keys: SigningKeys) {
        self.keys.store(Arc::new(keys));
    }

    pub(crate) fn load(&self) -> Guard<Arc<SigningKeys>> {
        self.keys.load()
    }
}
