//! Takes the connections that peers make to us, within the limits.

use std::sync::Arc;

use iroh::endpoint::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

use super::{CODE, IrohConnection};
use crate::{Limits, SharedConnection};

/// Accepts until the endpoint is closed. Owns a task per connection, which ends with it.
pub(super) async fn run(
    endpoint: iroh::Endpoint,
    limits: Limits,
    accepted: mpsc::Sender<SharedConnection>,
) {
    let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(1)));
    let connections = permits(limits.connections_max);
    let handshakes = permits(limits.handshakes_max);
    let mut tasks = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while tasks.try_join_next().is_some() {}
        let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!(connections_max = limits.connections_max, "net.accept is full");
            incoming.refuse();
            continue;
        };
        let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
            shed(incoming);
            continue;
        };
        tasks.spawn(serve(incoming, limits.clone(), connection, handshake, accepted.clone()));
    }
    // The endpoint is closed and every connection with it.
    tasks.join_all().await;
}

/// Under load a peer first has to show that it receives at the address it claims.
fn shed(incoming: Incoming) {
    if incoming.remote_addr_validated() {
        incoming.refuse();
    } else if let Err(error) = incoming.retry() {
        tracing::debug!(%error, "net.accept cannot ask for a retry");
    }
}

/// One connection: handshake, hand over, wait for its end.
async fn serve(
    incoming: Incoming,
    limits: Limits,
    connection_permit: OwnedSemaphorePermit,
    handshake_permit: OwnedSemaphorePermit,
    accepted: mpsc::Sender<SharedConnection>,
) {
    let connection = match tokio::time::timeout(limits.dial_timeout, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "net.handshake failed"),
        Err(error) => return tracing::debug!(%error, "net.handshake timed out"),
    };
    let closed = connection.weak_handle().closed();
    let shared = IrohConnection::new(connection.clone());
    if accepted.try_send(Arc::new(shared)).is_err() {
        // Nobody asks for connections quickly enough; a stalled owner must not pile them up.
        connection.close(CODE, b"overloaded");
    }
    drop(connection);
    drop(handshake_permit);
    closed.await;
    drop(connection_permit);
}
