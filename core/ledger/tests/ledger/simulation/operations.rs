//! What the actors of a simulation try: each action with valid, borderline and hostile arguments.

use ledger::Module;
use types::{
    ChannelId, Hash32, Height, ModelId, Nusd, PublicKey, Signature, TimeMs, Watt,
    channel::ChannelTerms,
    consensus::ConsensusVote,
    genesis::Bucket,
    limits::LANES_MAX,
    receipt::ServiceReport,
    sign::Signed,
    stake::{CommissionTerms, Evidence, OperatorId, Role, price_commitment},
    tx::{Action, CreditPurchase, VoucherClaim},
};

use super::{Sim, audits::MODELS};
use crate::slashing::report;
use crate::world::{
    COMMISSION, FREE_TERMS, MINUTE_MS, NAMES, address, claim, consensus_key, key, payer_key, ppm,
    precommit, profile, provider,
};

/// Those who validate or want to.
pub(super) const VALIDATORS: [&str; 5] = ["vera", "vito", "alice", "dora", "mallory"];

impl Sim {
    pub(super) fn operation(&mut self) -> (&'static str, Action) {
        let name = self.name();
        match self.below(274) {
            0..8 => (name, self.transfer()),
            8..24 => (name, self.purchase(name)),
            24..30 => (name, Action::RefundCredits { credits: self.credits(name) }),
            30..44 => (name, self.provider_registration(name)),
            44..47 => (name, Action::UnbondProvider),
            47..51 => (name, Action::Heartbeat),
            51..54 => (name, self.gateway_registration(name)),
            54..72 => self.opening(name),
            72..78 => {
                let (channel, payer, _) = self.known_channel();
                let name = self.mostly(payer);
                (name, Action::TopUpChannel { channel, amount: self.credits(name) })
            }
            78..108 => self.redemption(),
            108..112 => {
                let (channel, _, receiver) = self.known_channel();
                let balance = self.world.state.channel(&channel).map(|channel| channel.balance());
                let amount = Nusd(self.amount(balance.unwrap_or_default().0));
                (self.mostly(receiver), Action::ReturnDeposit { channel, amount })
            }
            112..117 => {
                let (channel, payer, _) = self.known_channel();
                (self.mostly(payer), Action::RequestWithdraw { channel })
            }
            117..122 => {
                let (channel, payer, _) = self.known_channel();
                (self.mostly(payer), Action::FinalizeWithdraw { channel })
            }
            122..125 => {
                let (channel, _, receiver) = self.known_channel();
                (self.mostly(receiver), Action::CloseChannel { channel })
            }
            125..129 => self.validator_registration(),
            129..132 => self.commission(name),
            132..146 => {
                (name, Action::Delegate { operator: self.operator(), amount: self.watt(name) })
            }
            146..151 => {
                let (name, operator, amount) = self.staked();
                (name, Action::Undelegate { operator, amount })
            }
            151..158 => {
                let (name, from, amount) = self.staked();
                let to = OperatorId { role: from.role, ..self.operator() };
                let to = if self.below(20) == 0 { self.operator() } else { to };
                (name, Action::Redelegate { from, to, amount })
            }
            158..162 => {
                let (name, operator, _) = self.staked();
                (name, Action::WithdrawRewards { operator })
            }
            162..165 => (self.pick(&VALIDATORS), Action::WithdrawCommission { role: self.role() }),
            165..170 => (self.pick(&VALIDATORS), Action::Unjail { role: self.role() }),
            170..172 => (name, self.evidence()),
            172..184 => {
                let name = self.voter();
                self.commitment(name)
            }
            184..197 => self.reveal(),
            200..208 => self.receipts(),
            208..228 => self.verdict(),
            228..246 => self.revelation(),
            246..250 => self.calibration(),
            250..256 => self.auditor(),
            256..264 => self.planted(),
            264..269 => self.appeal(),
            269..271 => self.canary(),
            271..274 => self.demand(),
            _ => {
                let buckets = [Bucket::Team, Bucket::Treasury, Bucket::Community];
                (name, Action::ClaimVested { bucket: self.pick(&buckets) })
            }
        }
    }

    fn transfer(&mut self) -> Action {
        let to = if self.below(10) == 0 {
            self.pick(&Module::ALL).address()
        } else {
            address(self.name())
        };
        let from = self.name();
        Action::Transfer { to, amount: self.watt(from) }
    }

    fn purchase(&mut self, name: &str) -> Action {
        Action::BuyCredits(if self.below(2) == 0 {
            CreditPurchase::Pay { watt: self.watt(name) }
        } else {
            let credits = Nusd(self.amount(Nusd::whole(300).0));
            CreditPurchase::Receive { credits, watt_max: self.watt(name) }
        })
    }

    fn provider_registration(&mut self, name: &str) -> Action {
        let owner = if self.below(8) == 0 { self.name() } else { name };
        let mut profile = profile(if self.below(20) == 0 { "\u{7}" } else { name });
        match self.below(30) {
            0 => profile.region = "North Pole".to_owned(),
            1 => profile.models = vec![ModelId([1; 32]); 2],
            2..5 => {}
            _ => profile.models = MODELS.to_vec(),
        }
        let bond = if self.below(2) == 0 { Watt::ZERO } else { self.watt(name) };
        let is_known = self.world.state.operator(&provider(name)).is_some();
        let commission = match self.below(10) {
            0 => Some(COMMISSION),
            _ if is_known => None,
            // Whoever registers so may share its income from one block to the next.
            _ => Some(FREE_TERMS),
        };
        let node_key = key(&format!("{owner}/node"));
        Action::RegisterProvider { node_key, profile, commission, bond }
    }

    fn gateway_registration(&mut self, name: &str) -> Action {
        let addr = if self.below(5) == 0 { "nowhere" } else { "127.0.0.1:1" };
        let owner = if self.below(12) == 0 { self.name() } else { name };
        let node_key = key(&format!("{owner}/node"));
        let addrs = vec![addr.to_owned(); self.below(12) as usize];
        Action::RegisterGateway { node_key, moniker: name.to_owned(), addrs }
    }

    fn opening(&mut self, name: &'static str) -> (&'static str, Action) {
        let receiver = self.receiver();
        let payer = if self.below(20) == 0 { self.name() } else { name };
        let delay_ms = match self.below(20) {
            0 => MINUTE_MS - 1,
            1 => 30 * MINUTE_MS + 1,
            _ => MINUTE_MS + self.below(29 * MINUTE_MS),
        };
        let terms = ChannelTerms {
            payer: address(payer),
            payer_key: payer_key(payer),
            receiver: address(receiver),
            salt: self.below(100),
            withdraw_delay_ms: delay_ms,
        };
        let known: Vec<ChannelTerms> = self
            .world
            .state
            .channels_of(address(name))
            .map(|(_, channel)| channel.terms.clone())
            .filter(|terms| terms.payer == address(name))
            .collect();
        if !known.is_empty() && self.below(20) == 0 {
            let terms = known[self.below(known.len() as u64) as usize].clone();
            return (name, Action::OpenChannel { terms, deposit: self.credits(name) });
        }
        let id = terms.id(&self.world.genesis.chain_id);
        self.channels.push((id, payer, receiver));
        (name, Action::OpenChannel { terms, deposit: self.credits(name) })
    }

    /// Mostly one of the registered providers.
    pub(super) fn receiver(&mut self) -> &'static str {
        let providers: Vec<&'static str> = NAMES
            .into_iter()
            .filter(|name| self.world.state.provider(&address(name)).is_some())
            .collect();
        match providers.is_empty() {
            false if self.below(10) > 0 => self.pick(&providers),
            _ => self.name(),
        }
    }

    fn redemption(&mut self) -> (&'static str, Action) {
        let (_, _, receiver) = self.known_channel();
        let own: Vec<_> = self
            .channels
            .iter()
            .filter(|(id, _, to)| {
                *to == receiver && self.world.state.channel(id).is_some_and(|channel| channel.open)
            })
            .copied()
            .collect();
        let count = self.below(6);
        let claims = (0..count).map(|_| self.claim(&own)).collect();
        (self.mostly(receiver), Action::RedeemVouchers { claims })
    }

    fn claim(&mut self, own: &[(ChannelId, &'static str, &'static str)]) -> VoucherClaim {
        let (id, payer, _) = if own.is_empty() || self.below(30) == 0 {
            self.known_channel()
        } else {
            self.pick(own)
        };
        let lane = if self.below(40) == 0 { LANES_MAX } else { self.below(3) as u32 };
        let channel = self.world.state.channel(&id);
        let deposit = channel.map_or(Nusd::whole(1), |channel| channel.deposit).0;
        let total = Nusd(match self.below(30) {
            0 => self.amount(deposit),
            1..5 => deposit / 2,
            _ => u128::from(self.below(u64::try_from(deposit / 3).unwrap_or(u64::MAX).max(1))),
        });
        let signed = if self.below(40) == 0 { Nusd(total.0 / 2) } else { total };
        let signer = if self.below(40) == 0 { self.name() } else { payer };
        claim(signer, id, lane, signed, total)
    }

    fn validator_registration(&mut self) -> (&'static str, Action) {
        let name = self.pick(&VALIDATORS);
        let owner = if self.below(8) == 0 { self.name() } else { name };
        let commission = match self.below(8) {
            0 => CommissionTerms { rate: ppm(600_000), ..COMMISSION },
            1 => CommissionTerms::ALL,
            _ => COMMISSION,
        };
        let stake = if self.below(4) == 0 { self.watt(name) } else { Watt::whole(60) };
        let moniker = if self.below(20) == 0 { String::new() } else { name.to_owned() };
        let consensus_key = consensus_key(owner);
        (name, Action::RegisterValidator { consensus_key, moniker, commission, stake })
    }

    /// Of a validator, or of a provider that begins to share with its delegators.
    fn commission(&mut self, name: &'static str) -> (&'static str, Action) {
        let role = self.role();
        let name = if role == Role::Validator { self.pick(&VALIDATORS) } else { name };
        let rate = self
            .world
            .state
            .operator(&OperatorId { role, account: address(name) })
            .map_or(0, |operator| operator.commission.rate.get());
        let change = self.below(120_000) as u32;
        let rate = if role == Role::Provider { 1_000_000 - change * 5 } else { rate / 2 + change };
        (name, Action::SetCommission { role, rate: ppm(rate.min(1_000_000)) })
    }

    /// Mostly one that exists.
    fn operator(&mut self) -> OperatorId {
        let known: Vec<OperatorId> = self.world.state.operators().map(|(id, _)| *id).collect();
        if known.is_empty() || self.below(15) == 0 {
            let account = address(self.name());
            return OperatorId { role: self.role(), account };
        }
        self.pick(&known)
    }

    fn role(&mut self) -> Role {
        if self.below(4) == 0 { Role::Provider } else { Role::Validator }
    }

    /// Somebody, an operator it mostly has stake behind, and around how much that is.
    fn staked(&mut self) -> (&'static str, OperatorId, Watt) {
        let stakes: Vec<(&'static str, OperatorId)> = NAMES
            .into_iter()
            .flat_map(|name| {
                let stakes = self.world.state.stakes_of(address(name));
                stakes.map(move |(id, _)| (name, id))
            })
            .collect();
        let (name, id) = if stakes.is_empty() || self.below(20) == 0 {
            (self.name(), self.operator())
        } else {
            self.pick(&stakes)
        };
        let held = self.world.state.stake_of(&address(name), &id);
        // All of it now and then, so that pools get empty.
        let amount = if self.below(8) == 0 { held } else { Watt(self.amount(held.0)) };
        (name, id, amount)
    }

    fn evidence(&mut self) -> Action {
        let evidence = match self.below(2) {
            0 => self.double_sign(),
            _ => self.double_claim(),
        };
        Action::SubmitEvidence { evidence }
    }

    fn double_sign(&mut self) -> Evidence {
        let name = if self.below(4) == 0 { self.name() } else { self.pick(&VALIDATORS) };
        let tip = self.world.state.height().0;
        let height = Height(match self.below(6) {
            0 => tip + 1,
            1 => self.below(tip + 1),
            _ => tip.saturating_sub(self.below(10)),
        });
        let signed = |value: ConsensusVote, signer: PublicKey| Signed {
            value,
            signer,
            signature: Signature([0; 64]),
        };
        let first = precommit(height, 1);
        let mut second = precommit(height, 2);
        let mut signer = consensus_key(name);
        match self.below(7) {
            0 => second.block = first.block,
            1 => second.height = height.next(),
            2 => second.round = 1,
            3 => signer = consensus_key(self.name()),
            _ => {}
        }
        let first = signed(first, consensus_key(name));
        Evidence::DoubleVote { first, second: signed(second, signer) }
    }

    fn double_claim(&mut self) -> Evidence {
        let (channel, _, receiver) = self.known_channel();
        let now = self.world.now;
        let signed = |value: ServiceReport, name: &str| {
            Box::new(Signed { value, signer: key(name), signature: Signature([0; 64]) })
        };
        let ended_at = TimeMs(match self.below(4) {
            0 => 0,
            1 => u64::MAX,
            _ => now.0 - self.below(MINUTE_MS),
        });
        let total = self.below(100_000_000_000);
        let other = if self.below(4) == 0 { total } else { self.below(100_000_000_000) };
        let attempt = u16::from(self.below(6) == 0);
        let signer = if self.below(6) == 0 { self.name() } else { receiver };
        let report = |total: u64| report(receiver, channel, Nusd(total.into()), ended_at);
        let first = signed(report(total), receiver);
        let second = signed(ServiceReport { attempt, ..report(other) }, signer);
        Evidence::DoubleClaim { first, second }
    }

    /// Who has a seat reveals the vote of the period before, or commits to one.
    pub(super) fn votes_of_all(&mut self) -> Vec<(&'static str, Action)> {
        let earlier = self.world.state.period(self.world.now).saturating_sub(1);
        let state = &self.world.state;
        let is_seated =
            |name: &&'static str| state.validator(&address(name)).is_some_and(|entry| entry.seated);
        let seated: Vec<&'static str> = VALIDATORS.into_iter().filter(is_seated).collect();
        let vote = |name| match self.votes.get(&(earlier, name)).copied() {
            Some(nusd_per_watt) => {
                (name, Action::RevealPrice { nusd_per_watt, salt: Hash32([7; 32]) })
            }
            None => self.commitment(name),
        };
        seated.into_iter().map(vote).collect()
    }

    fn commitment(&mut self, name: &'static str) -> (&'static str, Action) {
        let price = self.world.state.price().0;
        let factor = 850_000 + u128::from(self.below(self.price_range));
        let price = match self.below(60) {
            0 => Nusd::ZERO,
            1 => Nusd(u128::MAX),
            _ => Nusd(price * factor / 1_000_000),
        };
        let period = self.world.state.period(self.world.now);
        self.votes.entry((period, name)).or_insert(price);
        let chain_id = &self.world.genesis.chain_id;
        let commitment = price_commitment(chain_id, &address(name), &[7; 32], price);
        (name, Action::CommitPrice { commitment })
    }

    fn reveal(&mut self) -> (&'static str, Action) {
        let period = self.world.state.period(self.world.now).saturating_sub(1);
        let own = self.votes.range((period, "")..);
        let own: Vec<_> = own.map(|((_, name), price)| (*name, *price)).collect();
        let (name, mut price) = match own.is_empty() {
            false if self.below(20) > 0 => self.pick(&own),
            _ => (self.voter(), Nusd::whole(2)),
        };
        if self.below(30) == 0 {
            price.0 = price.0.wrapping_add(1);
        }
        (name, Action::RevealPrice { nusd_per_watt: price, salt: Hash32([7; 32]) })
    }

    /// Mostly one that has a seat.
    fn voter(&mut self) -> &'static str {
        let state = &self.world.state;
        let seated: Vec<&'static str> = VALIDATORS
            .into_iter()
            .filter(|name| state.validator(&address(name)).is_some_and(|entry| entry.seated))
            .collect();
        if seated.is_empty() || self.below(15) == 0 { self.name() } else { self.pick(&seated) }
    }

    /// Mostly an open channel, sometimes one that closed or never opened, rarely none.
    pub(super) fn known_channel(&mut self) -> (ChannelId, &'static str, &'static str) {
        let is_open = |(id, ..): &&(ChannelId, _, _)| {
            self.world.state.channel(id).is_some_and(|channel| channel.open)
        };
        let open: Vec<_> = self.channels.iter().filter(is_open).copied().collect();
        match self.below(50) {
            0 => (ChannelId([9; 32]), self.name(), self.name()),
            1..5 if !self.channels.is_empty() => self.pick(&self.channels.clone()),
            _ if !open.is_empty() => self.pick(&open),
            _ => (ChannelId([9; 32]), self.name(), self.name()),
        }
    }

    pub(super) fn name(&mut self) -> &'static str {
        self.pick(&NAMES)
    }

    pub(super) fn mostly(&mut self, name: &'static str) -> &'static str {
        if self.below(12) == 0 { self.name() } else { name }
    }

    /// Around what `name` has.
    fn watt(&mut self, name: &str) -> Watt {
        let balance = self.world.watt(name).0;
        Watt(self.amount(balance))
    }

    /// Up to four fifths of what `name` has, now and then more.
    fn credits(&mut self, name: &str) -> Nusd {
        let balance = self.world.credits(name).0;
        Nusd(self.amount(balance.saturating_mul(2)))
    }

    /// Mostly a part of `whole`, now and then an edge.
    fn amount(&mut self, whole: u128) -> u128 {
        match self.below(40) {
            0 => 0,
            1 => 1,
            2 => whole,
            3 => whole.saturating_add(1),
            4 => u128::MAX,
            _ => whole.saturating_mul(u128::from(self.below(400))) / 1_000,
        }
    }
}
