//! An auditor without a network.

use std::path::Path;

use types::PublicKey;

use super::*;

impl Shared {
    /// Of an auditor without models, whose ledger does not answer. The node key is that of a provider of a round.
    pub(crate) fn alone(home: &Path, caller: PublicKey) -> Shared {
        let chain = Arc::new(HttpChain::new("http://127.0.0.1:1").unwrap());
        let operator: Arc<dyn Sign> = Arc::new(keys::SecretKey::from_seed([1; 32]));
        Shared {
            chain_id: "test.1".parse().unwrap(),
            operator: Address::of_key(&operator.public_key()),
            sender: TxSender::new(Arc::clone(&chain) as Arc<dyn Chain>, operator),
            chain,
            shelf: Arc::new(Shelf::new(Vec::new(), None)),
            desk: Mutex::default(),
            arriving: Semaphore::new(ARRIVING_KIB_MAX),
            decoding: Semaphore::new(DECODING_MAX),
            callers: Mutex::new(Callers::of(Address([7; 20]), caller)),
            docket: Docket::open(home).unwrap(),
            fetching: Mutex::new(Fetching { mirror: None, tried: BTreeMap::new(), now: None }),
            tokens_max: 1,
        }
    }
}
