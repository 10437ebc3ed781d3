//! A local network of one validator for tests: known keys, a clock that stands still, port 0.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use keys::SecretKey;
use replica::Clock;
use types::{
    TimeMs, Watt,
    genesis::{Genesis, GenesisAccount},
    sign::Sign,
};
use validator::{
    ConsensusKey, Timeouts, Validator, ValidatorConfig, ValidatorError, ValidatorHandle,
    genesis::{LOCAL_STAKE, LocalNetwork, LocalValidator, local},
};
use wire::chain::{HttpChain, TxSender};

pub(crate) const START: TimeMs = TimeMs(1_700_000_000_000);

#[derive(Debug)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(Ordering::SeqCst))
    }
}

/// One key per part.
pub(crate) fn key(part: u8) -> SecretKey {
    SecretKey::from_seed([part; 32])
}

pub(crate) const CONSENSUS: u8 = 1;
pub(crate) const HOLDER: u8 = 2;
pub(crate) const GATEWAY: u8 = 3;
pub(crate) const NODE: u8 = 4;
/// Accounts from here on have 1 000 WATT each.
pub(crate) const USERS: std::ops::Range<u8> = 10..26;

pub(crate) fn genesis() -> Genesis {
    let accounts = USERS
        .map(|user| GenesisAccount { address: key(user).address(), balance: Watt::whole(1_000) });
    local(LocalNetwork {
        time: START,
        validators: vec![LocalValidator {
            moniker: "local".to_owned(),
            consensus_key: key(CONSENSUS).public_key(),
            operator: key(CONSENSUS).address(),
            stake: LOCAL_STAKE,
        }],
        holder: key(HOLDER).address(),
        gateway: key(GATEWAY).address(),
        accounts: accounts.collect(),
    })
    .unwrap()
}

/// A home that outlives its validators.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
}

impl Home {
    pub(crate) fn new() -> Home {
        let clock = Arc::new(ManualClock(AtomicU64::new(START.0 + 1_000)));
        Home { folder: tempfile::tempdir().unwrap(), clock }
    }

    pub(crate) fn config(&self) -> ValidatorConfig {
        ValidatorConfig {
            home: self.folder.path().join("validator"),
            genesis: genesis(),
            consensus: Some(ConsensusKey {
                key: key(CONSENSUS),
                mark: self.folder.path().join("consensus.mark"),
            }),
            node_key: key(NODE),
            listen: "127.0.0.1:0".parse().unwrap(),
            peer_listen: "127.0.0.1:0".parse().unwrap(),
            peers: Vec::new(),
            peers_only: false,
            timeouts: Timeouts::STANDARD,
            heartbeat: None,
            halt_at: None,
            blocks_kept: None,
            snapshot_interval: validator::SNAPSHOT_INTERVAL,
            state_sync: None,
            operator: None,
            vote_price: None,
        }
    }

    pub(crate) async fn start_with(
        &self,
        config: ValidatorConfig,
    ) -> Result<ValidatorHandle, ValidatorError> {
        Validator::start_with_clock(config, self.clock.clone()).await
    }

    pub(crate) async fn start(&self) -> (ValidatorHandle, Arc<HttpChain>) {
        let validator = self.start_with(self.config()).await.unwrap();
        let chain = HttpChain::new(&validator.chain_api_url()).unwrap();
        (validator, Arc::new(chain))
    }
}

pub(crate) fn sender(chain: &Arc<HttpChain>, part: u8) -> TxSender {
    TxSender::new(chain.clone(), Arc::new(key(part)))
}
