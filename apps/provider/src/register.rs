//! Makes the operator's account a provider under our node key, and keeps what its entry says true.

use types::{Address, PublicKey, Watt, state::ProviderProfile, tx::Action};
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
    /// Gateways still know it by its node key, so it can go on.
    #[error(
        "cannot update what the registration of {operator} says; it goes on with the old entry"
    )]
    Update { operator: Address, source: SendError },
}

/// What has to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// Without it no gateway would know us.
    Register(Action),
    /// What people read about us is out of date.
    Update(Action),
}

/// What has to be sent, if anything.
fn plan(
    entry: Option<&ProviderView>,
    node_key: PublicKey,
    profile: ProviderProfile,
    bond: Watt,
) -> Option<Step> {
    // Nothing is said about the commission: what was declared stays, and who never declared anything
    // keeps everything. `peerwatt provider register` declares other terms.
    let commission = None;
    let register = |profile, bond| Action::RegisterProvider { node_key, profile, commission, bond };
    let Some(entry) = entry else { return Some(Step::Register(register(profile, bond))) };
    let listed = listed(entry);
    // No models: the engines were not there when they were asked. What is listed stays.
    let models = if profile.models.is_empty() { listed.models.clone() } else { profile.models };
    let profile = ProviderProfile { models, ..profile };
    let differs = profile != listed;
    // What was bonded before stays; more is bonded by a transaction of its own.
    let register = register(profile, Watt::ZERO);
    if entry.node_key != node_key {
        Some(Step::Register(register))
    } else if differs {
        Some(Step::Update(register))
    } else {
        None
    }
}

fn listed(entry: &ProviderView) -> ProviderProfile {
    ProviderProfile {
        moniker: entry.moniker.clone(),
        region: entry.region.clone(),
        class: entry.class.clone(),
        models: entry.models.clone(),
        price_max: entry.price_max,
    }
}

/// Registers, or updates node key and profile, where that is needed.
pub(crate) async fn register(
    chain: &dyn Chain,
    sender: &TxSender,
    node_key: PublicKey,
    profile: ProviderProfile,
    bond: Watt,
) -> Result<(), RegisterError> {
    let operator = sender.address();
    let entry = chain.provider(operator).await;
    let entry = entry.map_err(|source| RegisterError::Read { operator, source })?;
    if entry.as_ref().is_some_and(|entry| entry.leaving) {
        return Err(RegisterError::Leaving { operator });
    }
    let applied = match plan(entry.as_ref(), node_key, profile, bond) {
        None => return Ok(()),
        Some(Step::Register(action)) => {
            let applied = sender.send(action).await;
            applied.map_err(|source| RegisterError::Send { operator, source })?
        }
        Some(Step::Update(action)) => {
            let applied = sender.send(action).await;
            applied.map_err(|source| RegisterError::Update { operator, source })?
        }
    };
    tracing::info!(%operator, tx = %applied.id, "provider.registered");
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use types::{ModelId, Nusd, TimeMs};

    use super::*;

    const NODE: PublicKey = PublicKey([1; 32]);

    pub(crate) fn profile(models: &[u8]) -> ProviderProfile {
        ProviderProfile {
            moniker: "rack".to_owned(),
            models: models.iter().map(|&id| ModelId([id; 32])).collect(),
            ..ProviderProfile::default()
        }
    }

    pub(crate) fn entry(profile: ProviderProfile) -> ProviderView {
        ProviderView {
            operator: Address([7; 20]),
            node_key: NODE,
            moniker: profile.moniker,
            region: profile.region,
            class: profile.class,
            models: profile.models,
            price_max: profile.price_max,
            bond: Watt::whole(5),
            bond_required: Watt::whole(5),
            delegated: Watt::ZERO,
            earned: Watt::ZERO,
            pending: Nusd::ZERO,
            registered_at: TimeMs(0),
            probation_until: TimeMs(0),
            leaving: false,
            jailed: false,
            heartbeats: 0,
            seen_period: 0,
            channels_open: 0,
        }
    }

    fn registration(profile: ProviderProfile, bond: Watt) -> Action {
        Action::RegisterProvider { node_key: NODE, profile, commission: None, bond }
    }

    #[test]
    fn only_what_differs_is_sent() {
        let check = |listed: Option<&[u8]>, ours: &[u8], expected: Option<Step>| {
            let entry = listed.map(|models| entry(profile(models)));
            assert_eq!(plan(entry.as_ref(), NODE, profile(ours), Watt::whole(9)), expected);
        };
        let new = registration(profile(&[1]), Watt::whole(9));
        let update = registration(profile(&[1, 2]), Watt::ZERO);
        check(None, &[1], Some(Step::Register(new)));
        check(Some(&[1]), &[1], None);
        check(Some(&[1]), &[1, 2], Some(Step::Update(update)));
        // The engines were not asked in time.
        check(Some(&[1]), &[], None);
    }

    #[test]
    fn another_node_key_must_be_registered() {
        let mut moved = entry(profile(&[1]));
        moved.node_key = PublicKey([2; 32]);
        let action = registration(profile(&[1]), Watt::ZERO);
        let step = plan(Some(&moved), NODE, profile(&[1]), Watt::whole(9));
        assert_eq!(step, Some(Step::Register(action)));
    }
}
