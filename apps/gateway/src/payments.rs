//! Requests that callers without an API key pay for themselves, one by one (x402, `docs/spec/x402.md`).
//!
//! Such a caller has opened a channel of its own to a provider, in which it has named this gateway's payer key: the
//! gateway signs the vouchers, and the caller's credits pay. For each request the caller signs what it may cost at
//! most. Invariants: a payment begins at most one answer, and no more is charged for that than it allows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use keys::Ed25519;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use types::{
    Address, ChannelId, Hash32, Nusd, RequestId, TimeMs, ability::Abilities,
    inference::InferenceRequest, payment::Payment, sign::Signed,
};
use wire::{
    api::x402::{self, Extra, PaymentRequired, Requirements, Resource},
    chain::ChannelView,
};

use crate::{
    accounts::KeyId,
    dispatch::{self, Needs, Size},
    error::{PaymentProblem, RequestFailure},
    lanes::Ask,
    shared::Shared,
};

/// The key that stands for all callers without one: its limits are theirs, and it shows what they used. Nobody knows it,
/// so no request can use it as a key.
pub const X402_KEY: &str = "x402";

/// How long a payment may be valid at most: so long it is remembered.
const VALID_MS_MAX: u64 = 10 * 60 * 1_000;
/// Payments that are remembered at once.
const USED_MAX: usize = 100_000;
/// A view of a caller's channel this old is good enough: its provider looks for itself.
const FRESH: Duration = Duration::from_secs(15);
/// Callers' channels that are remembered. Each has cost its caller a fee.
const KNOWN_MAX: usize = 65_536;
/// Questions to the chain at once, and how long one may take.
const LOOKUPS_MAX: usize = 8;
const LOOKUP_WAIT: Duration = Duration::from_secs(5);
/// Providers that are named to a caller.
const OFFERS_MAX: usize = 8;

/// What is known of payments and of the channels that they come from.
#[derive(Debug)]
pub(crate) struct Payments {
    /// Those that began something, until they expire.
    used: Mutex<BTreeMap<RequestId, TimeMs>>,
    known: Mutex<BTreeMap<ChannelId, Known>>,
    lookups: Semaphore,
    /// Of [`X402_KEY`], if callers may pay by request.
    key: OnceLock<KeyId>,
}

/// A caller's channel as the chain has it.
#[derive(Clone, Copy, Debug)]
struct Known {
    payer: Address,
    provider: Address,
    funds: Nusd,
    seen_at: Instant,
}

/// Who pays for a request.
#[derive(Debug)]
pub(crate) struct Payer {
    pub(crate) key: KeyId,
    /// If it is not the gateway that pays the provider.
    pub(crate) own: Option<Own>,
}

impl From<KeyId> for Payer {
    fn from(key: KeyId) -> Payer {
        Payer { key, own: None }
    }
}

/// A payment that was accepted: the caller's own channel pays. It can be used again if nothing is charged.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) channel: ChannelId,
    pub(crate) provider: Address,
    pub(crate) payer: Address,
    pub(crate) amount_max: Nusd,
    #[expect(dead_code, reason = "dropped to let the payment be used again")]
    claim: Claim,
}

struct Claim {
    shared: Arc<Shared>,
    id: RequestId,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Claim").field(&self.id).finish()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.shared.books.has_settled(&self.id) {
            lock(&self.shared.payments.used).remove(&self.id);
        }
    }
}

impl Payments {
    pub(crate) fn new() -> Payments {
        Payments {
            used: Mutex::default(),
            known: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
            key: OnceLock::new(),
        }
    }

    /// From now on callers may pay by request, in the name of this key.
    pub(crate) fn begin(&self, key: KeyId) {
        // Called once, at the start.
        let _ = self.key.set(key);
    }

    /// The key that stands for callers who pay by request, if they may.
    pub(crate) fn key(&self) -> Option<KeyId> {
        self.key.get().copied()
    }
}

/// Takes a payment for the request that hashes to `request`.
pub(crate) async fn accept(
    shared: &Arc<Shared>,
    given: Signed<Payment>,
    request: Hash32,
) -> Result<Own, RequestFailure> {
    let config = &shared.config;
    let id = given.request_id();
    let verified = given.verify(&config.chain_id, &Ed25519).map_err(|_| {
        problem(PaymentProblem::Invalid(format!(
            "its signature is not valid on the network {}",
            config.chain_id
        )))
    })?;
    let payment = *verified.value();
    if payment.request != request {
        let other = "it is for another request: the hash of path and body differs";
        return Err(problem(PaymentProblem::Invalid(other.into())));
    }
    let now = shared.now();
    if payment.expires_at <= now || payment.expires_at > now.plus_ms(VALID_MS_MAX) {
        return Err(problem(PaymentProblem::Invalid(format!(
            "it must expire within {} minutes from now, and not before",
            VALID_MS_MAX / 60_000
        ))));
    }
    let claim = claim(shared, id, payment.expires_at, now)?;
    let known = channel(shared, payment.channel, payment.amount_max).await?;
    if known.payer != Address::of_key(&verified.signer()) {
        let other = format!("the channel {} is not of its signer", payment.channel);
        return Err(problem(PaymentProblem::Invalid(other)));
    }
    Ok(Own {
        channel: payment.channel,
        provider: known.provider,
        payer: known.payer,
        amount_max: payment.amount_max,
        claim,
    })
}

fn problem(problem: PaymentProblem) -> RequestFailure {
    RequestFailure::Payment { problem }
}

/// Marks a payment as used.
fn claim(
    shared: &Arc<Shared>,
    id: RequestId,
    expires_at: TimeMs,
    now: TimeMs,
) -> Result<Claim, RequestFailure> {
    let again = || problem(PaymentProblem::Invalid("it was used before; sign another one".into()));
    if shared.books.has_settled(&id) {
        return Err(again());
    }
    let mut used = lock(&shared.payments.used);
    if used.contains_key(&id) {
        return Err(again());
    }
    if used.len() >= USED_MAX {
        used.retain(|_, expires_at| *expires_at > now);
    }
    if used.len() >= USED_MAX {
        return Err(RequestFailure::TooMany { whose: "paid by their callers" });
    }
    used.insert(id, expires_at);
    Ok(Claim { shared: Arc::clone(shared), id })
}

/// The caller's channel, read again if it was read long ago or seems not to hold `needed`.
async fn channel(shared: &Shared, id: ChannelId, needed: Nusd) -> Result<Known, RequestFailure> {
    let payments = &shared.payments;
    let known = lock(&payments.known).get(&id).copied();
    let is_fresh =
        |known: &Known| known.seen_at.elapsed() < FRESH && shared.books.room(id) >= needed;
    if let Some(known) = known.filter(is_fresh) {
        return Ok(known);
    }
    let look_up = async {
        let _permit = payments.lookups.acquire().await;
        shared.config.chain.channel(id).await
    };
    let away = |reason: String| RequestFailure::ChainAway { reason };
    let view = timeout(LOOKUP_WAIT, look_up).await.map_err(|_| away("it is slow".into()))?;
    let view = view.map_err(|error| away(error.to_string()))?;
    let known = usable(shared, id, view.as_ref())?;
    let lanes = view.map(|view| view.lanes).unwrap_or_default();
    shared.books.set_own_channel(id, known.provider, known.funds, &lanes);
    let mut all = lock(&payments.known);
    if all.len() >= KNOWN_MAX {
        all.retain(|_, known| known.seen_at.elapsed() < FRESH);
    }
    all.insert(id, known);
    Ok(known)
}

/// Whether this gateway can pay from a channel.
fn usable(
    shared: &Shared,
    id: ChannelId,
    view: Option<&ChannelView>,
) -> Result<Known, RequestFailure> {
    let unusable = |why: String| problem(PaymentProblem::Invalid(why));
    let view = view.ok_or_else(|| unusable(format!("there is no channel {id}")))?;
    if !view.open || view.withdraw_at.is_some() {
        return Err(unusable(format!("the channel {id} is closed, or its payer withdraws")));
    }
    let payer_key = shared.config.payer.public_key();
    if view.terms.payer_key != payer_key {
        return Err(unusable(format!(
            "the channel {id} does not name the payer key of this gateway, {payer_key}"
        )));
    }
    Ok(Known {
        payer: view.terms.payer,
        provider: view.terms.receiver,
        funds: view.funds(),
        seen_at: Instant::now(),
    })
}

/// A request as far as its price depends on it.
#[derive(Debug)]
pub(crate) struct Quote {
    /// Where it was sent, and its hash.
    path: String,
    pub(crate) request: Hash32,
    model_name: String,
    need: market::Need,
    policy: market::Policy,
    size: Size,
    tokens_max: Option<u32>,
}

impl Quote {
    /// For a known model.
    pub(crate) fn new(
        (path, hash): (&str, Hash32),
        (model_name, model): (&str, types::ModelId),
        request: &InferenceRequest,
        needs: &Needs,
    ) -> Quote {
        let abilities = Abilities::needed(request);
        Quote {
            path: path.to_owned(),
            request: hash,
            model_name: model_name.to_owned(),
            need: dispatch::need(model, abilities, request, needs),
            policy: needs.policy,
            size: Size::of(request),
            tokens_max: request.tokens_max,
        }
    }

    /// How it can be paid, and why it is not answered.
    pub(crate) fn required(
        &self,
        shared: &Shared,
        error: String,
    ) -> Result<PaymentRequired, RequestFailure> {
        let candidates = shared.directory.candidates(self.need.model, &[], None);
        let policy = market::Policy { explore_ppm: 0, ..self.policy };
        let now = shared.since_start();
        let mut choice =
            market::choose(&policy, now, &self.need, &candidates, dispatch::any_number());
        if choice.scored.is_empty() {
            return Err(dispatch::nobody((&self.model_name, &self.need), Some(&choice), None, now));
        }
        choice.scored.sort_by_key(|scored| scored.score);
        let best = choice.scored.iter().take(OFFERS_MAX);
        let accepts = best.filter_map(|scored| {
            let candidate = candidates.get(scored.index)?;
            Some(self.requirements(shared, candidate))
        });
        Ok(PaymentRequired {
            x402_version: x402::VERSION,
            error,
            resource: Resource {
                url: self.path.clone(),
                description: format!("an answer of {}", self.model_name),
                mime_type: "application/json".to_owned(),
            },
            accepts: accepts.collect(),
        })
    }

    fn requirements(&self, shared: &Shared, candidate: &market::Candidate) -> Requirements {
        let config = &shared.config;
        let price = self.need.abilities.price(candidate.price);
        let ask = Ask {
            price,
            prompt_tokens_max: self.size.max,
            tokens_max: self.tokens_max,
            context_tokens: dispatch::answer_room(&self.need.abilities, candidate.context_tokens),
            budget_left: Ask::ALL,
        };
        let (_, most) = ask.bounds();
        Requirements {
            scheme: x402::SCHEME.to_owned(),
            network: x402::network(&config.chain_id),
            asset: x402::ASSET.to_owned(),
            amount: most,
            pay_to: candidate.provider,
            max_timeout_seconds: VALID_MS_MAX / 1_000,
            extra: Extra {
                payer_key: config.payer.public_key(),
                chain_id: config.chain_id.clone(),
                request: self.request,
                model: self.need.model,
                price,
                withdraw_delay_ms: config.channels.withdraw_delay_ms,
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Single inserts and removals: never half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
