#![doc = "PLACEHOLDER"]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod env;
mod future;
mod layer;
mod public_url;
mod rejection;
mod service;
#[cfg(feature = "signer")]
mod signer;
mod verify;

#[cfg(feature = "signer")]
#[cfg_attr(docsrs, doc(cfg(feature = "signer")))]
pub use crate::signer::{Signer, UnsignedToken};
pub use crate::{
    body::{RequestBody, ResponseBody},
    future::ResponseFuture,
    layer::QStashVerifyLayer,
    public_url::{PublicUrl, PublicUrlError},
    rejection::Rejection,
    service::QStashVerify,
    verify::{
        Claims, NumericDate, SigningKeyError, SigningKeys, VerifiedToken, Verifier, VerifyError,
    },
};
