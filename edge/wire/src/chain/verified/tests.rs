//! Nodes that tell the truth, and nodes that lie in every way that is open to them.

mod double;

use std::sync::atomic::AtomicU64;

use keys::{Ed25519, SecretKey};
use types::{
    Lane, Nonce, Nusd, Watt,
    audit::CommitmentId,
    sign::{Sign, Signed},
    state::{Account, AuditorEntry, Channel, Gateway},
    tx::{Action, Tx},
};

use super::*;
use double::{Behaviour, Double, Truth, channel_terms, operator, secret};

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Height>>);

impl KeepTrust for Kept {
    fn keep(&self, state: &TrustedState) {
        self.0.lock().unwrap().push(state.height());
    }
}

/// A client of `nodes` that trusts the genesis document, and a clock that is set to shortly after the
/// newest block of `truth`.
struct Client {
    chain: VerifiedChain,
    kept: Arc<Kept>,
    now: Arc<AtomicU64>,
}

fn client(truth: &Truth, nodes: &[&Arc<Double>]) -> Client {
    let now = Arc::new(AtomicU64::new(truth.newest_time().0 + 1_000));
    let kept = Arc::new(Kept::default());
    let clock = Arc::clone(&now);
    let config = VerifiedConfig {
        nodes: nodes.iter().map(|node| Arc::clone(node) as Arc<dyn ProvingChain>).collect(),
        genesis: truth.genesis(),
        trusted: TrustedState::from_genesis(&truth.genesis()),
        clock: Arc::new(move || TimeMs(clock.load(Ordering::Relaxed))),
        keeper: Arc::clone(&kept) as Arc<dyn KeepTrust>,
    };
    Client { chain: VerifiedChain::new(config), kept, now }
}

fn unproven(error: ChainError) -> Unproven {
    match error {
        ChainError::Unproven { source, .. } => *source,
        other => panic!("not a lie: {other}"),
    }
}

fn alice() -> Address {
    operator(1)
}

fn with_account(watt: u128, nonce: u64) -> Account {
    Account { watt: Watt(watt), nonce: Nonce(nonce), ..Account::default() }
}

/// Three blocks; alice has 5 and has sent one transaction.
fn truth() -> Truth {
    let truth = Truth::new();
    truth.put(StateKey::Account { address: alice() }, &with_account(9, 0));
    truth.block();
    truth.put(StateKey::Account { address: alice() }, &with_account(5, 1));
    truth.block();
    truth.block();
    truth
}

#[tokio::test]
async fn what_validators_signed_is_believed() {
    let truth = truth();
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    let account = client.chain.account(alice()).await.unwrap();
    assert_eq!((account.watt, account.nonce), (Watt(5), Nonce(1)));
    let nobody = client.chain.account(operator(9)).await.unwrap();
    assert_eq!((nobody.watt, nobody.nonce), (Watt(0), Nonce(0)));
    assert_eq!(client.chain.provider(operator(9)).await.unwrap(), None);
    let status = client.chain.status().await.unwrap();
    assert_eq!((status.height, status.app_hash), (Height(3), truth.newest().header.app_hash));
    assert_eq!(client.chain.trusted().await.height(), Height(3));
    assert_eq!(*client.kept.0.lock().unwrap(), [Height(3)]);
}

#[tokio::test]
async fn before_the_first_block_the_genesis_document_answers() {
    let truth = Truth::new();
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    let funded = client.chain.account(truth.genesis().accounts[0].address).await.unwrap();
    assert_eq!(funded.watt, truth.genesis().accounts[0].balance);
    assert_eq!(client.chain.channel(channel_terms().id(&truth.chain_id())).await.unwrap(), None);
    assert_eq!(client.chain.status().await.unwrap().chain_id, truth.chain_id());
}

/// What comes of asking a liar for alice's account.
async fn check(lie: Behaviour, is_expected: fn(&Unproven) -> bool) {
    let truth = truth();
    let (liar, honest) =
        (Double::new("liar", &truth, lie), Double::new("honest", &truth, Behaviour::Honest));
    // Also with an honest node beside it: a lie is told, not passed over.
    for nodes in [vec![&liar], vec![&liar, &honest]] {
        let error = unproven(client(&truth, &nodes).chain.account(alice()).await.unwrap_err());
        assert!(is_expected(&error), "{lie:?}: {error:?}");
    }
}

#[tokio::test]
async fn every_lie_about_an_account_is_found() {
    check(Behaviour::OtherValue, |it| matches!(it, Unproven::Entry(_))).await;
    check(Behaviour::HidesTheEntry, |it| matches!(it, Unproven::Entry(_))).await;
    check(Behaviour::NoHexadecimal, |it| matches!(it, Unproven::Entry(EntryError::NotHex))).await;
    check(Behaviour::OtherEntry, |it| matches!(it, Unproven::OtherEntry { .. })).await;
    check(Behaviour::OtherNetwork, |it| matches!(it, Unproven::OtherNetwork { .. })).await;
    check(Behaviour::OtherRoot, |it| {
        matches!(it, Unproven::Header(LightError::Certificate { .. }))
    })
    .await;
    check(Behaviour::SignsItself, |it| {
        matches!(
            it,
            Unproven::Header(LightError::TooFar { .. } | LightError::OtherValidators { .. })
        )
    })
    .await;
    check(Behaviour::FromTheFuture, |it| matches!(it, Unproven::Header(LightError::Future { .. })))
        .await;
}

#[tokio::test]
async fn an_old_answer_is_not_taken_for_a_new_one() {
    let truth = truth();
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    assert_eq!(client.chain.account(alice()).await.unwrap().watt, Watt(5));
    node.behave(Behaviour::IsBehind);
    let error = client.chain.account(alice()).await.unwrap_err();
    assert!(matches!(error, ChainError::Behind { known: Height(3), .. }), "{error}");
    let error = client.chain.status().await.unwrap_err();
    assert!(matches!(error, ChainError::Behind { .. }), "{error}");
    // As if there were no blocks at all.
    node.behave(Behaviour::HasNoBlocks);
    let error = client.chain.account(alice()).await.unwrap_err();
    assert!(matches!(error, ChainError::Behind { .. }), "{error}");
}

#[tokio::test]
async fn another_node_answers_for_one_that_cannot() {
    let truth = truth();
    for broken in [Behaviour::IsDown, Behaviour::IsBusy] {
        let first = Double::new("first", &truth, broken);
        let second = Double::new("second", &truth, Behaviour::Honest);
        let client = client(&truth, &[&first, &second]);
        assert_eq!(client.chain.account(alice()).await.unwrap().watt, Watt(5));
        // And goes on to, without the first being asked again and again.
        let asked = first.questions();
        client.chain.account(alice()).await.unwrap();
        assert_eq!(first.questions(), asked);
        second.behave(broken);
        assert!(client.chain.account(alice()).await.is_err());
        first.behave(Behaviour::Honest);
        assert_eq!(client.chain.account(alice()).await.unwrap().watt, Watt(5));
    }
}

#[tokio::test]
async fn two_certified_histories_stop_everything() {
    let (truth, other) = (truth(), Truth::new());
    other.put(StateKey::Account { address: alice() }, &with_account(1_000, 0));
    for _ in 0..3 {
        other.block();
    }
    let first = Double::new("first", &truth, Behaviour::Honest);
    let second = Double::new("second", &other, Behaviour::Honest);
    let client = client(&truth, &[&first, &second]);
    for _ in 0..2 {
        let error = unproven(client.chain.account(alice()).await.unwrap_err());
        let fork = error.fork().expect("a fork");
        assert_eq!(fork.first, truth.newest());
        assert_eq!(fork.second, other.newest());
        assert_eq!(fork.double_votes().len(), 4);
    }
    assert!(client.kept.0.lock().unwrap().is_empty(), "nothing of it is kept");
}

#[tokio::test]
async fn a_second_node_that_forges_headers_is_told_and_no_fork() {
    let truth = truth();
    let first = Double::new("first", &truth, Behaviour::Honest);
    let second = Double::new("second", &truth, Behaviour::SignsItself);
    let client = client(&truth, &[&first, &second]);
    for _ in 0..2 {
        let error = client.chain.account(alice()).await.unwrap_err();
        let ChainError::Unproven { url, source } = error else { panic!("{error}") };
        assert_eq!((url.as_str(), source.fork()), ("second", None));
    }
    second.behave(Behaviour::IsBehind);
    assert!(client.chain.account(alice()).await.is_ok());
}

#[tokio::test]
async fn after_the_trust_period_nothing_is_believed() {
    let truth = truth();
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    client.chain.account(alice()).await.unwrap();
    let period = Rules::of(&truth.genesis().params).trust_period_ms;
    client.now.store(truth.newest_time().0 + period, Ordering::Relaxed);
    let error = unproven(client.chain.account(alice()).await.unwrap_err());
    assert!(matches!(error, Unproven::Header(LightError::Expired { .. })), "{error:?}");
}

/// A channel in which two lanes have claimed 3 and 4.
fn with_channel(truth: &Truth) -> ChannelId {
    let terms = channel_terms();
    let id = terms.id(&truth.chain_id());
    let entry = Channel {
        terms,
        deposit: Nusd(100),
        claimed: Nusd(7),
        settled: Nusd(0),
        refunded: Nusd::ZERO,
        returned: Nusd(0),
        opened_at: Height(1),
        withdraw_at: None,
        open: true,
    };
    truth.put(StateKey::Channel { id }, &entry);
    for (lane, claimed) in [(1, 3), (4, 4)] {
        truth.put(StateKey::Lane { channel: id, lane: Lane(lane) }, &Nusd(claimed));
    }
    truth.block();
    id
}

#[tokio::test]
async fn a_channel_is_proven_with_all_its_lanes() {
    let truth = truth();
    let id = with_channel(&truth);
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    let view = client.chain.channel(id).await.unwrap().unwrap();
    let lanes: Vec<(u32, u128)> =
        view.lanes.iter().map(|lane| (lane.lane.0, lane.claimed.0)).collect();
    assert_eq!((view.claimed, lanes), (Nusd(7), vec![(1, 3), (4, 4)]));
    assert_eq!(client.chain.channels_of(view.terms.payer).await.unwrap(), [view]);
    assert_eq!(client.chain.channel(ChannelId([9; 32])).await.unwrap(), None);

    node.behave(Behaviour::HidesALane);
    let error = unproven(client.chain.channel(id).await.unwrap_err());
    assert!(matches!(error, Unproven::Lanes { .. }), "{error:?}");
    node.behave(Behaviour::ListsWhatIsNotThere);
    let error = unproven(client.chain.channels_of(alice()).await.unwrap_err());
    assert!(matches!(error, Unproven::Listed { what: "channel", .. }), "{error:?}");
}

#[tokio::test]
async fn gateways_are_where_they_registered_to_be() {
    let truth = truth();
    let entry = Gateway {
        node_key: secret(7).public_key(),
        moniker: "door".to_owned(),
        addrs: vec!["127.0.0.1:1".to_owned()],
        registered_at: TimeMs(1),
    };
    truth.put(StateKey::Gateway { operator: operator(7) }, &entry);
    truth.block();
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    // The double lists every gateway under another key; the state knows better.
    let gateways = client.chain.gateways().await.unwrap();
    assert_eq!((gateways[0].node_key, &gateways[0].addrs), (entry.node_key, &entry.addrs));
    node.behave(Behaviour::ListsWhatIsNotThere);
    let error = unproven(client.chain.gateways().await.unwrap_err());
    assert!(matches!(error, Unproven::Listed { what: "gateway", .. }), "{error:?}");
}

#[tokio::test]
async fn auditors_and_rounds_are_those_of_the_state() {
    let truth = truth();
    let entry =
        AuditorEntry { node_key: secret(7).public_key(), addrs: vec!["127.0.0.1:1".to_owned()] };
    truth.put(StateKey::Auditor { operator: operator(7) }, &entry);
    let commitment = CommitmentId { provider: operator(3), sequence: 9 };
    let round = double::round(operator(7));
    truth.put(StateKey::Round { commitment }, &round);
    truth.block();
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    // The double has another key for every auditor, and knows of no round.
    let auditor = client.chain.auditor(operator(7)).await.unwrap();
    assert_eq!(auditor, Some(AuditorView::of(operator(7), entry)));
    let known = client.chain.round(commitment).await.unwrap();
    assert_eq!(known, Some(RoundView::of(commitment, &round)));
    assert_eq!(client.chain.auditor(operator(8)).await.unwrap(), None);
    let other = CommitmentId { sequence: 10, ..commitment };
    assert_eq!(client.chain.round(other).await.unwrap(), None);
    for behaviour in [Behaviour::HidesTheEntry, Behaviour::OtherValue] {
        node.behave(behaviour);
        let error = unproven(client.chain.auditor(operator(7)).await.unwrap_err());
        assert!(matches!(error, Unproven::Entry(_)), "{error:?}");
        let error = unproven(client.chain.round(commitment).await.unwrap_err());
        assert!(matches!(error, Unproven::Entry(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_provider_that_the_state_has_cannot_be_hidden_or_changed() {
    let truth = truth();
    let entry = double::provider_entry();
    truth.put(StateKey::Provider { operator: operator(3) }, &entry);
    truth.block();
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    let view = client.chain.provider(operator(3)).await.unwrap().unwrap();
    assert_eq!((view.node_key, view.earned), (entry.node_key, entry.earned));
    assert_eq!(client.chain.providers().await.unwrap(), [view]);
    node.behave(Behaviour::HidesAProvider);
    let error = unproven(client.chain.provider(operator(3)).await.unwrap_err());
    assert!(matches!(error, Unproven::Hidden { .. }), "{error:?}");
}

#[tokio::test]
async fn a_transaction_that_is_said_to_be_in_a_block_has_used_its_nonce() {
    let truth = truth();
    let tx = |nonce| {
        let value = Tx {
            chain_id: truth.chain_id(),
            nonce: Nonce(nonce),
            fee_max: Watt(1),
            tip: Watt(0),
            valid_until: None,
            action: Action::Heartbeat,
        };
        SignedTx(Signed::new(value, &truth.chain_id(), &secret(1)))
    };
    // The double says that everything is applied. Alice has sent one transaction, with nonce 0.
    let node = Double::new("a", &truth, Behaviour::Honest);
    let client = client(&truth, &[&node]);
    assert!(client.chain.submit(&tx(0)).await.is_ok());
    let error = client.chain.submit(&tx(1)).await.unwrap_err();
    assert!(error.leaves_outcome_open());
    assert!(matches!(unproven(error), Unproven::NotIncluded { .. }));
}

#[test]
fn the_doubles_signatures_are_real() {
    let key: SecretKey = secret(1);
    let signature = key.sign(b"x");
    assert!(types::sign::VerifySignature::verify(&Ed25519, &key.public_key(), b"x", &signature));
}
