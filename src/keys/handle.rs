//! Signing keys that are replaced while services run.

use std::{fmt, sync::Arc};

use arc_swap::{ArcSwap, Guard};

use super::SigningKeys;

/// Replaces the signing keys of running services, without a restart.
///
/// Every clone of a service checks its next request with the new keys. A request whose signature was
/// already checked goes on.
///
/// ```
/// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys, SigningKeysHandle};
///
/// let handle = SigningKeysHandle::new(SigningKeys::new("sig_current", "sig_next")?);
/// let public_url = PublicUrl::base("https://api.example.com")?;
/// let layer = QStashVerifyLayer::new(handle.clone(), public_url);
///
/// // After a roll, wherever the new keys come from:
/// handle.set(SigningKeys::new("sig_next", "sig_new")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SigningKeysHandle {
    keys: Arc<ArcSwap<SigningKeys>>,
}

impl SigningKeysHandle {
    /// Creates a handle to `keys`, to be passed to layers.
    pub fn new(keys: SigningKeys) -> Self {
        Self { keys: Arc::new(ArcSwap::from_pointee(keys)) }
    }

    /// Replaces all signing keys. The previous ones are no longer accepted, so pass the complete set.
    pub fn set(&self, keys: SigningKeys) {
        self.keys.store(Arc::new(keys));
    }

    pub(crate) fn load(&self) -> Guard<Arc<SigningKeys>> {
        self.keys.load()
    }
}

impl From<SigningKeys> for SigningKeysHandle {
    fn from(keys: SigningKeys) -> Self {
        Self::new(keys)
    }
}

impl fmt::Debug for SigningKeysHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}
