//! Gateways: where providers dial in.

use types::{
    PublicKey,
    limits::{GATEWAY_ADDRS_MAX, NAME_BYTES_MAX},
};

pub use types::state::Gateway;

use crate::{
    error::TxError,
    event::Event,
    execute::Context,
    provider::{NodeRole, check_moniker},
    state::State,
};

/// Registers the signer, or replaces what its entry says.
pub(crate) fn register(
    state: &mut State,
    context: &mut Context,
    node_key: PublicKey,
    moniker: &str,
    addrs: &[String],
) -> Result<(), TxError> {
    let operator = context.sender;
    check_moniker(moniker)?;
    check_addrs(addrs)?;
    state.check_node_key(NodeRole::Gateway, node_key, operator)?;
    let mut registered_at = context.time;
    if let Some(before) = state.gateways.get(&operator).cloned() {
        registered_at = before.registered_at;
        state.node_keys.remove(&(NodeRole::Gateway, before.node_key));
    }
    state.node_keys.insert((NodeRole::Gateway, node_key), operator);
    let moniker = moniker.to_owned();
    let gateway =
        Gateway { node_key, moniker: moniker.clone(), addrs: addrs.to_vec(), registered_at };
    state.gateways.insert(operator, gateway);
    context.events.push(Event::GatewayRegistered { operator, node_key, moniker });
    Ok(())
}

/// Addresses of an entry: not too many, each of the right form.
pub(crate) fn check_addrs(addrs: &[String]) -> Result<(), TxError> {
    if addrs.len() > GATEWAY_ADDRS_MAX {
        return Err(TxError::GatewayAddrs { count: addrs.len(), max: GATEWAY_ADDRS_MAX });
    }
    match addrs.iter().position(|addr| !is_host_and_port(addr)) {
        Some(index) => Err(TxError::GatewayAddr { index }),
        None => Ok(()),
    }
}

/// The form only: whether something answers there is for those who dial to find out.
fn is_host_and_port(addr: &str) -> bool {
    let Some((host, port)) = addr.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || (bracketed && byte == b':')
    };
    let inside = host.trim_start_matches('[').trim_end_matches(']');
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    addr.len() <= NAME_BYTES_MAX
        && !inside.is_empty()
        && inside.bytes().all(plain)
        && digits
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        for good in ["203.0.113.7:4433", "gate.example.org:1", "[2001:db8::1]:65535", "localhost:9"]
        {
            assert!(is_host_and_port(good), "{good}");
        }
        let long = format!("{}:1", "a".repeat(NAME_BYTES_MAX));
        for bad in [
            "",
            ":",
            "host",
            "host:",
            ":80",
            "[]:80",
            "host:0",
            "host:65536",
            "host:+80",
            "2001:db8::1:80",
            "ho st:80",
            "host\n:80",
            "http://host:80",
            &long,
        ] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
