//! Auditors: where those of the validators are reached. Who has not said so cannot get openings from anybody,
//! and is not drawn.

use types::{Address, PublicKey, state::AuditorEntry};

use crate::{
    error::TxError, event::Event, execute::Context, gateway::check_addrs, provider::NodeRole,
    state::State,
};

/// Makes or replaces the entry of the signer, who is a registered validator; without addresses it is taken away.
pub(crate) fn register(
    state: &mut State,
    context: &mut Context,
    node_key: PublicKey,
    addrs: &[String],
) -> Result<(), TxError> {
    let operator = context.sender;
    if !state.validators.contains(&operator) {
        return Err(TxError::ValidatorUnknown { operator });
    }
    check_addrs(addrs)?;
    state.check_node_key(NodeRole::Auditor, node_key, operator)?;
    if addrs.is_empty() {
        state.put_auditor(operator, None);
        context.events.push(Event::AuditorWithdrawn { operator });
        return Ok(());
    }
    state.put_auditor(operator, Some(AuditorEntry { node_key, addrs: addrs.to_vec() }));
    context.events.push(Event::AuditorRegistered { operator, node_key });
    Ok(())
}

impl State {
    pub fn auditor(&self, operator: &Address) -> Option<&AuditorEntry> {
        self.auditors.get(operator)
    }

    /// All that are reached somewhere, by operator.
    pub fn auditors(&self) -> impl Iterator<Item = (&Address, &AuditorEntry)> {
        self.auditors.iter()
    }

    /// Together with the index of node keys.
    fn put_auditor(&mut self, operator: Address, after: Option<AuditorEntry>) {
        if let Some(before) = self.auditors.get(&operator) {
            self.node_keys.remove(&(NodeRole::Auditor, before.node_key));
        }
        match after {
            Some(after) => {
                self.node_keys.insert((NodeRole::Auditor, after.node_key), operator);
                self.auditors.insert(operator, after);
            }
            None => self.auditors.remove(&operator),
        }
    }
}
