//! Proofs, simulations, the stream of events, votes on the price and snapshots, over the real API.

use std::sync::Arc;

use futures::StreamExt;
use keys::Ed25519;
use light::{Rules, TrustedState};
use types::{
    Address, Height, Nusd, Watt,
    sign::Sign,
    stake::OperatorId,
    state::StateKey,
    tx::{Action, CreditPurchase},
};
use validator::{SnapshotToolError, check_snapshot, export_snapshot};
use wire::chain::{
    Chain, EntryError, KeepTrust, StateProof, TxResult, TxSender, VerifiedChain, VerifiedConfig,
};

use crate::{
    network::{CONSENSUS, HOLDER, Home, START, USERS, genesis, key, sender},
    signed, transfer,
};

/// Checks a proof as a stranger would who knows nothing but the genesis document.
fn verify(proof: &StateProof) -> Result<Option<Vec<u8>>, EntryError> {
    assert!(is_certified(proof));
    proof.entry()
}

fn is_certified(proof: &StateProof) -> bool {
    let (trusted, rules) = (TrustedState::from_genesis(&genesis()), Rules::of(&genesis().params));
    let now = proof.header.time;
    trusted.advance(&proof.block(), now, &rules, &Ed25519).is_ok()
}

#[tokio::test]
async fn an_account_is_proven_to_a_stranger_and_so_is_its_absence() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let unproven = chain.prove(StateKey::Account { address: key(10).address() }).await;
    assert_eq!(unproven.unwrap_err().code(), Some("not_found"), "there is no block yet");
    sender(&chain, 10).send(transfer(11, Watt::whole(5))).await.unwrap();

    let known = chain.prove(StateKey::Account { address: key(11).address() }).await.unwrap();
    let value = verify(&known).unwrap().unwrap();
    let account: types::state::Account = borsh::from_slice(&value).unwrap();
    assert_eq!(account.watt, Watt::whole(1_005));

    let validator_pool = OperatorId::validator(key(CONSENSUS).address());
    let pool = chain.prove(StateKey::Operator { id: validator_pool }).await.unwrap();
    assert!(verify(&pool).unwrap().is_some());
    let absent = chain.prove(StateKey::Account { address: Address([9; 20]) }).await.unwrap();
    assert_eq!(verify(&absent), Ok(None));

    let mut richer = known.clone();
    richer.value = richer.value.map(|text| format!("ff{}", &text[2..]));
    assert_eq!(verify(&richer), Err(EntryError::Proof(light::ProofError::Value)));
    let mut other = known.clone();
    other.key = StateKey::Account { address: key(12).address() };
    assert!(verify(&other).is_err());
    let mut forged = known;
    forged.header.app_hash.0[0] ^= 1;
    assert!(!is_certified(&forged));
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_header_comes_with_what_certifies_it() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    assert_eq!(chain.light_block(None).await.unwrap(), None, "there is no block yet");
    let sender = sender(&chain, 10);
    for amount in 1..=3 {
        sender.send(transfer(11, Watt(amount))).await.unwrap();
    }
    let rules = Rules::of(&genesis().params);
    let mut trusted = TrustedState::from_genesis(&genesis());
    for height in (1..=3).map(Height) {
        let block = chain.light_block(Some(height)).await.unwrap().unwrap();
        trusted = trusted.advance(&block, block.header.time, &rules, &Ed25519).unwrap();
    }
    let newest = chain.light_block(None).await.unwrap();
    assert_eq!(newest.as_ref(), trusted.block());
    assert_eq!(chain.light_block(Some(Height(99))).await.unwrap(), None);
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_chain_that_is_only_believed_when_proven_answers_the_same() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let verified = VerifiedChain::new(VerifiedConfig {
        nodes: vec![chain.clone()],
        genesis: genesis(),
        trusted: TrustedState::from_genesis(&genesis()),
        clock: Arc::new(|| START.plus_ms(1_000)),
        keeper: Arc::new(Forgets),
    });
    // Before the first block the genesis document answers.
    let address = key(10).address();
    assert_eq!(verified.account(address).await.unwrap(), chain.account(address).await.unwrap());
    let register = Action::RegisterGateway {
        node_key: key(77).public_key(),
        moniker: "door".to_owned(),
        addrs: vec!["127.0.0.1:1".to_owned()],
    };
    let verified = Arc::new(verified);
    TxSender::new(verified.clone(), Arc::new(key(10))).send(register).await.unwrap();
    assert_eq!(verified.account(address).await.unwrap(), chain.account(address).await.unwrap());
    assert_eq!(verified.gateways().await.unwrap(), chain.gateways().await.unwrap());
    assert_eq!(verified.providers().await.unwrap(), chain.providers().await.unwrap());
    assert_eq!(verified.status().await.unwrap(), chain.status().await.unwrap());
    assert_eq!(verified.channels_of(address).await.unwrap(), []);
    validator.shutdown().await.unwrap();
}

#[derive(Debug)]
struct Forgets;

impl KeepTrust for Forgets {
    fn keep(&self, _: &TrustedState) {}
}

#[tokio::test]
async fn a_simulation_says_what_would_happen_and_changes_nothing() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let buy = CreditPurchase::Pay { watt: Watt::whole(10) };
    let tx = signed(10, 0, |tx| tx.action = Action::BuyCredits(buy));
    let before = chain.status().await.unwrap();
    let simulated = chain.simulate(&tx).await.unwrap();
    assert_eq!(chain.status().await.unwrap(), before);
    assert_eq!(chain.account(key(10).address()).await.unwrap().credits, Nusd::ZERO);
    let done = chain.submit(&tx).await.unwrap();
    assert_eq!((simulated.fee, &simulated.result), (done.fee, &done.result));

    let fails = signed(10, 1, |tx| tx.action = transfer(11, Watt::whole(5_000)));
    let simulated = chain.simulate(&fails).await.unwrap();
    match simulated.result {
        TxResult::Failed { code, .. } => assert_eq!(code, "account.insufficient_watt"),
        applied => panic!("{applied:?}"),
    }
    let misplaced = chain.simulate(&signed(10, 9, |_| {})).await.unwrap_err();
    assert_eq!(misplaced.code(), Some("nonce.too_high"));
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_stream_of_events_is_taken_up_where_it_ended() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let sender = sender(&chain, 10);
    for amount in 1..=3 {
        sender.send(transfer(11, Watt(amount))).await.unwrap();
    }
    let mut all = Box::pin(chain.follow_events(Some(Height(1))).await.unwrap());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let page = all.next().await.unwrap().unwrap();
        seen.push(page.events[0].height);
    }
    assert_eq!(seen, [1, 2, 3].map(Height));
    // What comes while somebody listens.
    sender.send(transfer(11, Watt(4))).await.unwrap();
    assert_eq!(all.next().await.unwrap().unwrap().next_height, Height(5));
    drop(all);
    sender.send(transfer(11, Watt(5))).await.unwrap();
    let mut rest = Box::pin(chain.follow_events(Some(Height(5))).await.unwrap());
    let page = rest.next().await.unwrap().unwrap();
    assert_eq!((page.events[0].height, page.next_height), (Height(5), Height(6)));
    validator.shutdown().await.unwrap();
    assert!(rest.next().await.is_none_or(|end| end.is_err()), "it ends with the validator");
}

/// The test moves the clock; the validator's own task sleeps in real time, for milliseconds, until a
/// period of the oracle begins.
#[tokio::test]
async fn a_validator_that_votes_keeps_the_price_fresh() {
    let home = Home::new();
    let mut config = home.config();
    config.genesis.params.oracle.period_ms = 1_000;
    config.genesis.params.oracle.twap_ms = 10_000;
    config.genesis.params.oracle.max_age_ms = 30_000;
    let nusd_per_watt = Nusd(105_000_000);
    config.operator = Some(key(CONSENSUS));
    config.vote_price = Some(nusd_per_watt);
    home.clock.advance(3_600_000);
    let validator = home.start_with(config).await.unwrap();
    let chain = wire::chain::HttpChain::new(&validator.chain_api_url()).unwrap();
    let mut events = Box::pin(chain.follow_events(Some(Height(1))).await.unwrap());
    let mut kinds = Vec::new();
    while !kinds.contains(&"oracle.counted".to_owned()) {
        let page = events.next().await.unwrap().unwrap();
        kinds.extend(page.events.into_iter().map(|event| event.event.kind));
        home.clock.advance(1_000);
    }
    let order = ["oracle.committed", "oracle.revealed", "oracle.counted"];
    let votes: Vec<&String> = kinds.iter().filter(|kind| kind.starts_with("oracle.")).collect();
    assert_eq!(votes, order);
    let status = chain.status().await.unwrap();
    assert_eq!(status.nusd_per_watt, nusd_per_watt);
    assert!(status.oracle.counted_at > START.plus_ms(3_600_000));
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_has_the_root_of_its_block_and_damage_shows() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    sender(&chain, 10).send(transfer(11, Watt::whole(5))).await.unwrap();
    let status = chain.status().await.unwrap();
    validator.shutdown().await.unwrap();

    let file = home.folder.path().join("state");
    let report = export_snapshot(&home.config().home, &file).unwrap();
    assert_eq!((report.height, report.app_hash), (status.height, status.app_hash));
    assert_eq!(check_snapshot(&file, &genesis()).unwrap(), report);
    let twice = export_snapshot(&home.config().home, &file).unwrap_err();
    assert!(matches!(twice, SnapshotToolError::Write { .. }), "a file is never replaced");

    let whole = std::fs::read(&file).unwrap();
    for at in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = check_snapshot(&file, &genesis()).unwrap_err();
        assert!(matches!(error, SnapshotToolError::Snapshot { .. }), "byte {at}: {error:?}");
    }
    std::fs::write(&file, &whole).unwrap();
    let mut other = genesis();
    other.time = START.plus_ms(1);
    assert!(check_snapshot(&file, &other).is_err());
}

#[tokio::test]
async fn every_documented_path_is_served() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    sender(&chain, 10).send(transfer(11, Watt(1))).await.unwrap();
    let address = key(CONSENSUS).address().to_string();
    for route in wire::chain::openapi::ROUTES {
        let path = route
            .path
            .replace("{address}", &address)
            .replace("{operator}", &address)
            .replace("{account}", &address)
            .replace("{role}", "validator")
            .replace("{height}", "1")
            .replace("{lane}", "0")
            .replace("{id}", &"ab".repeat(32));
        let url = format!("{}{path}", chain.url());
        let client = wire::http_client().unwrap();
        let request = if route.method == "get" { client.get(url) } else { client.post(url) };
        let mut answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert!([200, 400, 404].contains(&status), "{path}: {status}");
        if status == 404 {
            let body = answer.chunk().await.unwrap().unwrap_or_default();
            assert!(
                !String::from_utf8_lossy(&body).contains("request.path"),
                "{path} is not served"
            );
        }
    }
    validator.shutdown().await.unwrap();
}

#[test]
fn the_root_does_not_depend_on_how_many_threads_verify() {
    let signed: Vec<_> = (0..4)
        .flat_map(|nonce| USERS.map(move |user| (user, nonce)))
        .map(|(user, nonce)| signed(user, nonce, |tx| tx.action = transfer(HOLDER, Watt(7))))
        .collect();
    let root = |threads: usize| {
        let verified = std::thread::scope(|scope| {
            let workers: Vec<_> = signed
                .chunks(signed.len().div_ceil(threads))
                .map(|part| {
                    scope.spawn(move || {
                        part.iter()
                            .map(|tx| tx.clone().verify(&Ed25519).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        let mut state = ledger::State::from_genesis(&genesis()).unwrap();
        let block = ledger::BlockInfo { height: Height(1), time: START.plus_ms(1), absent: &[] };
        let outcome = state.execute_block(block, &verified).unwrap();
        assert!(outcome.is_clean());
        state.commit();
        state.app_hash()
    };
    let alone = root(1);
    assert_eq!([2, 3, 16, 64].map(root), [alone; 4]);
}
