//! A replay store that a test scripts: it keeps tokens in memory, and waits and fails as it is told.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use tower_qstash::{
    BoxError, Holder, Lifetime, MemoryStore, NumericDate, ReplayKey, ReplayStore, Reserve,
};

/// What the store does. By default it is never pending and works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// The reply to `reserve`, instead of the memory's.
    pub(crate) reserve: Option<Reserve>,
    /// The reply to `is_remembered`, instead of the memory's.
    pub(crate) is_remembered: Option<bool>,
    /// The operations that fail.
    pub(crate) failing: Vec<&'static str>,
    /// How often each operation is pending, and wakes its task.
    pub(crate) pending: usize,
}

/// Notes each operation when it begins. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct ScriptedStore {
    memory: Arc<MemoryStore>,
    script: Arc<Mutex<Script>>,
    pub(crate) journal: Journal,
}

/// What happened, in order. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<&'static str>>>);

impl Journal {
    pub(crate) fn note(&self, event: &'static str) {
        self.0.lock().expect("no test panicked").push(event);
    }

    /// Takes what happened since the last time.
    pub(crate) fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.lock().expect("no test panicked"))
    }
}

impl ScriptedStore {
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no test panicked")
    }

    /// Fails these operations, and no others.
    pub(crate) fn fail(&self, operations: &[&'static str]) {
        self.script().failing = operations.to_vec();
    }

    /// Begins an operation; the end comes when it is no longer pending.
    async fn step(&self, operation: &'static str) -> Result<(), BoxError> {
        self.journal.note(operation);
        let (pending, fails) = {
            let script = self.script();
            (script.pending, script.failing.contains(&operation))
        };
        pending_times(pending).await;
        if fails { Err(format!("the store failed to {operation}").into()) } else { Ok(()) }
    }
}

/// Is pending so often, and wakes its task each time.
pub(crate) async fn pending_times(mut times: usize) {
    poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl ReplayStore for ScriptedStore {
    async fn reserve(
        &self,
        key: ReplayKey,
        holder: Holder,
        lifetime: Lifetime,
    ) -> Result<Reserve, BoxError> {
        self.step("reserve").await?;
        let scripted = self.script().reserve;
        match scripted {
            Some(reserve) => Ok(reserve),
            None => self.memory.reserve(key, holder, lifetime).await,
        }
    }

    async fn confirm(&self, key: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        self.step("confirm").await?;
        self.memory.confirm(key, lifetime).await
    }

    async fn release(&self, key: ReplayKey, holder: Holder) -> Result<(), BoxError> {
        self.step("release").await?;
        self.memory.release(key, holder).await
    }

    async fn remember(&self, message: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        self.step("remember").await?;
        self.memory.remember(message, lifetime).await
    }

    async fn is_remembered(&self, message: ReplayKey, now: NumericDate) -> Result<bool, BoxError> {
        self.step("is_remembered").await?;
        let scripted = self.script().is_remembered;
        match scripted {
            Some(is_remembered) => Ok(is_remembered),
            None => self.memory.is_remembered(message, now).await,
        }
    }

    fn release_in_background(self: Arc<Self>, key: ReplayKey, holder: Holder) {
        self.journal.note("release in background");
        // The memory is ready at once.
        let mut release = std::pin::pin!(self.memory.release(key, holder));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(release.as_mut().poll(&mut context).is_ready());
    }
}
