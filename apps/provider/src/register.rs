//! Makes the operator's account a provider under our node key.

use types::{Address, PublicKey, Watt, tx::Action};
use wire::chain::{Chain, ChainError, ProviderView, SendError, TxSender};

/// Why the provider is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("cannot read the registration of {operator}")]
    Read { operator: Address, source: ChainError },
    #[error("cannot register {operator} as a provider")]
    Send { operator: Address, source: SendError },
    #[error(
        "{operator} is leaving the network; use another operator key, or wait until it has left"
    )]
    Leaving { operator: Address },
}

/// What has to be sent, if anything.
fn plan(
    entry: Option<&ProviderView>,
    node_key: PublicKey,
    moniker: &str,
    bond: Watt,
) -> Option<Action> {
    let register = |bond| Action::RegisterProvider { node_key, moniker: moniker.to_owned(), bond };
    match entry {
        None => Some(register(bond)),
        // What was bonded before stays; more is bonded by a transaction of its own.
        Some(entry) if entry.node_key != node_key => Some(register(Watt::ZERO)),
        Some(_) => None,
    }
}

/// Registers, or updates the node key, where that is needed.
pub(crate) async fn register(
    chain: &dyn Chain,
    sender: &TxSender,
    node_key: PublicKey,
    moniker: &str,
    bond: Watt,
) -> Result<(), RegisterError> {
    let operator = sender.address();
    let entry = chain.provider(operator).await;
    let entry = entry.map_err(|source| RegisterError::Read { operator, source })?;
    if entry.as_ref().is_some_and(|entry| entry.leaving) {
        return Err(RegisterError::Leaving { operator });
    }
    let Some(action) = plan(entry.as_ref(), node_key, moniker, bond) else { return Ok(()) };
    let applied = sender.send(action).await;
    let applied = applied.map_err(|source| RegisterError::Send { operator, source })?;
    tracing::info!(%operator, tx = %applied.id, "provider.registered");
    Ok(())
}
