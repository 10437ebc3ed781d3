//! The search of one request for a provider: whom to ask next, how long to wait for somebody to become
//! free, and what to tell the client when there is nobody.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use market::{Candidate, Patience};
use tokio::time::Instant;
use types::{Address, TimeMs, ability::Lacking, inference::InferenceRequest, price::Price};
use wire::serve::Refusal;

use super::{Job, Since, answer_room, any_number, begin, need};
use crate::{
    attempt::{Attempt, Event, explain},
    books::NotOpened,
    error::{PaymentProblem, RequestFailure},
    hedges::Second,
    keyring,
    lanes::{Ask, Short},
    providers::{Chosen, Directory, Slot},
    session::Ending,
    shared::Shared,
    treasury,
    upstreams::{Called, UpstreamRole, Upstreams},
};

/// Providers that are asked one after the other before the client is told that it failed.
const ATTEMPTS_MAX: u32 = 3;
/// Orders sent for one request, refusals without prejudice included.
const ORDERS_MAX: u16 = 16;
/// How long a request sleeps at most before it looks for a provider again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How whoever was found is asked.
pub(super) enum Way {
    Provider(Chosen, Slot),
    Upstream(Called),
}

/// Somebody to ask.
pub(super) struct Found {
    pub(super) way: Way,
    pub(super) provider: Address,
    pub(super) price: Price,
    pub(super) context_tokens: u32,
    /// By what was measured of it, if somebody else could be asked.
    pub(super) patience: Option<Patience>,
    /// Something was measured of it.
    pub(super) is_measured: bool,
    /// How long after the order its first token is late, likewise.
    pub(super) slow_after: Option<Duration>,
}

/// The search of one request for a provider.
pub(super) struct Search<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) job: &'a Arc<Job>,
    need: market::Need,
    /// Somebody has begun the answer.
    continues: bool,
    /// Somebody else may go on if this answer breaks off.
    may_break: bool,
    /// Not asked again.
    excluded: Vec<Address>,
    /// Not asked again before something has changed.
    waiting: Vec<Address>,
    /// Asked again once after their lanes were agreed on.
    reconciled: Vec<Address>,
    failures: u32,
    orders: u16,
    last_reason: Option<String>,
    /// What the client is told if nobody else can be asked: its budget does not suffice, or a service says that
    /// the request is wrong.
    otherwise: Option<RequestFailure>,
    queue_ends: Instant,
    /// For a request that another provider is late with.
    second: Option<Second>,
    /// Nobody could be asked, and that is counted: waiting makes it no more true.
    waits: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        job: &'a Arc<Job>,
        request: &InferenceRequest,
        since: Since,
    ) -> Search<'a> {
        let need = need(job.model, job.abilities, request, &job.needs);
        let queue = Duration::from_millis(shared.config.timeouts.queue_ms);
        Search {
            shared,
            job,
            need,
            continues: request.begun.is_some(),
            may_break: job.may_continue() && !since.is_last,
            excluded: since.failed,
            waiting: Vec::new(),
            reconciled: Vec::new(),
            failures: 0,
            orders: 0,
            last_reason: None,
            otherwise: None,
            queue_ends: Instant::now() + queue,
            second: since.second,
            waits: false,
        }
    }

    /// The number of an order: no other one of this request has it.
    pub(super) fn next_order(&mut self) -> u16 {
        self.orders = self.orders.saturating_add(1);
        self.job.orders.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn exclude(&mut self, provider: Address, reason: String) {
        self.excluded.push(provider);
        self.last_reason = Some(reason);
    }

    pub(super) fn failed(&mut self, provider: Address, reason: String) {
        self.failures += 1;
        tracing::info!(request = %self.job.request_id, %provider, %reason, "dispatch.failed");
        let now = self.shared.since_start();
        let outcome = market::Outcome::Failed;
        let problem = Some(reason.clone());
        self.shared.directory.observe(&provider, self.job.model, now, outcome, problem);
        self.exclude(provider, reason);
    }

    /// The same search once more, for somebody other than who is asked already.
    pub(super) fn second<'r>(
        &self,
        provider: Address,
        request: &'r InferenceRequest,
        second: Second,
    ) -> impl Future<Output = Result<Attempt, RequestFailure>> + use<'r> {
        let failed = self.excluded.iter().copied().chain([provider]).collect();
        let since = Since { failed, second: Some(second), is_last: !self.may_break };
        let (shared, job) = (Arc::clone(self.shared), Arc::clone(self.job));
        async move { Box::pin(begin(&shared, &job, request, since)).await }
    }

    /// Somebody to ask, waiting for a provider while all that could be asked are busy.
    pub(super) async fn provider(&mut self) -> Result<Found, RequestFailure> {
        let shared = self.shared;
        loop {
            let is_over = self.failures >= ATTEMPTS_MAX || self.orders >= ORDERS_MAX;
            if is_over {
                let found = self.last_resort();
                return found.map_err(|_| self.give_up(None));
            }
            let freed = shared.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let tried = self.tried();
            let mut candidates =
                shared.directory.candidates(self.job.model, &tried, self.job.prefix);
            candidates.extend(self.upstreams(&tried, UpstreamRole::Policy));
            let now = shared.since_start();
            let choice =
                market::choose(&self.job.needs.policy, now, &self.need, &candidates, any_number());
            tracing::debug!(request = %self.job.request_id, ?choice, "dispatch.choice");
            if choice.taken.is_some() || !std::mem::replace(&mut self.waits, true) {
                let named = (self.job.model_name.as_str(), self.job.model);
                shared.directory.count(named, &candidates, &choice, self.second.is_some());
            }
            if let Some(candidate) = choice.taken.and_then(|index| candidates.get(index)) {
                if let Some(found) = self.found(candidate, choice.scored.len() > 1) {
                    return Ok(found);
                }
                continue;
            }
            let mut choice = choice;
            match self.last_resort() {
                Ok(found) => return Ok(found),
                Err(last) => choice.passed.extend(last.passed),
            }
            let retry_at = match self.waiting.is_empty() {
                true => choice.retry_at(now),
                false => Some(now),
            };
            let Some(retry_at) = retry_at else { return Err(self.give_up(Some(&choice))) };
            let (clock, pause) = (Instant::now(), Duration::from_millis(retry_at.ms_since(now)));
            // Somebody who can be asked only after the queue's end is not waited for.
            if clock >= self.queue_ends || clock + pause > self.queue_ends {
                return Err(self.give_up(Some(&choice)));
            }
            let look_again = (clock + pause.max(LOOK_AGAIN)).min(self.queue_ends);
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(look_again) => {}
            }
            self.waiting.clear();
        }
    }

    fn tried(&self) -> Vec<Address> {
        self.excluded.iter().chain(&self.waiting).copied().collect()
    }

    /// Services outside the network that may be asked. Not for the rest of an answer: nobody knows whether they have
    /// the same weights.
    fn upstreams(&self, tried: &[Address], role: UpstreamRole) -> Vec<Candidate> {
        if self.continues || !self.job.needs.upstreams {
            return Vec::new();
        }
        let named = (self.job.model_name.as_str(), self.job.model);
        self.shared.upstreams.candidates(named, tried, role)
    }

    /// Somebody to ask when nobody else can be, or why there is none. Not for a request that somebody is only late with.
    fn last_resort(&self) -> Result<Found, market::Choice> {
        let candidates = match &self.second {
            Some(_) => Vec::new(),
            None => self.upstreams(&self.tried(), UpstreamRole::LastResort),
        };
        let now = self.shared.since_start();
        let choice =
            market::choose(&self.job.needs.policy, now, &self.need, &candidates, any_number());
        let candidate = choice.taken.and_then(|index| candidates.get(index));
        candidate.and_then(|candidate| self.found(candidate, false)).ok_or(choice)
    }

    /// Takes a slot of who was chosen, if it is still there.
    fn found(&self, candidate: &Candidate, has_others: bool) -> Option<Found> {
        let named = (self.job.model_name.as_str(), self.job.model);
        let way = match Directory::take(self.shared, candidate.provider) {
            Some((chosen, slot)) => Way::Provider(chosen, slot),
            None => Way::Upstream(Upstreams::take(self.shared, candidate.provider, named)?),
        };
        let (record, prompt_tokens) = (&candidate.record, self.need.prompt_tokens);
        // Who is alone, or the last that is asked, is waited for: to give it up early would
        // help nobody.
        let may_fail = self.failures.saturating_add(1) < ATTEMPTS_MAX
            && self.orders.saturating_add(1) < ORDERS_MAX;
        let has_others = may_fail && has_others;
        let measured = record.patience(prompt_tokens);
        let patience = measured.filter(|_| has_others);
        let patience = patience.map(|patience| match self.may_break {
            true => patience,
            false => Patience { inter_token_ms: u64::MAX, ..patience },
        });
        let slow_after = record.slow_after_ms(prompt_tokens).filter(|_| has_others);
        Some(Found {
            way,
            provider: candidate.provider,
            price: self.need.abilities.price(candidate.price),
            context_tokens: answer_room(&self.need.abilities, candidate.context_tokens),
            patience,
            is_measured: measured.is_some(),
            slow_after: slow_after.map(Duration::from_millis),
        })
    }

    /// Why there is no provider, as the client is told.
    fn give_up(&mut self, choice: Option<&market::Choice>) -> RequestFailure {
        if let Some(failure) = self.otherwise.take() {
            return failure;
        }
        let reason = self.last_reason.take();
        match reason {
            Some(reason) if self.failures > 0 => RequestFailure::Upstream { reason },
            reason => {
                let now = self.shared.since_start();
                nobody((&self.job.model_name, &self.need), choice, reason, now)
            }
        }
    }

    /// Deals with a request that cannot be paid.
    pub(super) async fn not_opened(
        &mut self,
        provider: Address,
        ask: &Ask,
        problem: NotOpened,
    ) -> Result<(), RequestFailure> {
        match problem {
            NotOpened::Journal(error) => {
                return Err(RequestFailure::Books { reason: error.to_string() });
            }
            NotOpened::Short { short: Short::Budget { needed }, .. }
                if needed > ask.budget_left =>
            {
                let problem = PaymentProblem::Short { needed, allowed: ask.budget_left };
                return Err(RequestFailure::Payment { problem });
            }
            NotOpened::Short { short: Short::Room { needed }, .. } if self.job.own.is_some() => {
                return Err(RequestFailure::Payment {
                    problem: PaymentProblem::Channel { needed },
                });
            }
            NotOpened::Short { short: Short::Budget { needed }, budget, left } => {
                let payer = (&self.job.key, self.job.request_id);
                let more = keyring::more(self.shared, payer, ask, (budget, left)).await?;
                let Err((budget, left)) = more else { return Ok(()) };
                // A cheaper provider may still do.
                self.excluded.push(provider);
                self.otherwise.get_or_insert(RequestFailure::Budget { budget, needed, left });
            }
            NotOpened::Short { short: Short::Room { needed }, .. } => {
                treasury::top_up(self.shared, provider, needed);
                self.last_reason = Some("its channel is being topped up".into());
                self.waiting.push(provider);
            }
            NotOpened::Short { short: Short::NoLane, .. } => self.waiting.push(provider),
            NotOpened::Short { short: Short::NoChannel, .. } => {
                self.exclude(provider, "its channel has just closed".into());
            }
        }
        Ok(())
    }

    /// Waits for the first piece of the answer. `None`: look for another provider.
    pub(super) async fn first_event(
        &mut self,
        provider: Address,
        mut attempt: Attempt,
    ) -> Result<Option<Attempt>, RequestFailure> {
        let closed = match attempt.event().await {
            Event::Closed(closed) => closed,
            event @ (Event::Tokens { .. }
            | Event::Call { .. }
            | Event::Arguments { .. }
            | Event::Vectors(_)) => {
                attempt.unread(event);
                return Ok(Some(attempt));
            }
        };
        if let Some(reason) = &closed.unrecorded {
            return Err(RequestFailure::Books { reason: reason.clone() });
        }
        if let (Some(second), Ending::Refused(_)) = (&self.second, &closed.closing.ending) {
            second.set_taken(false);
        }
        match &closed.closing.ending {
            Ending::Finished(_) => {
                attempt.unread(Event::Closed(closed));
                return Ok(Some(attempt));
            }
            // Engines that cannot go on say so, and others may.
            Ending::Refused(refusal @ Refusal::Request { .. }) if self.continues => {
                self.exclude(provider, format!("it refused: {refusal}"));
            }
            Ending::Refused(Refusal::Request { field, problem }) => {
                let (param, problem) = (Some(field.clone()), problem.clone());
                let failure = RequestFailure::Invalid { param, problem };
                if self.shared.upstreams.name_of(&provider).is_none() {
                    return Err(failure);
                }
                // What a service outside the network does not take, a provider may.
                self.exclude(provider, failure.to_string());
                self.otherwise.get_or_insert(failure);
            }
            // It will be asked again when it said, if there is time.
            Ending::Refused(Refusal::Busy { .. }) => {}
            // The next order takes another lane.
            Ending::Refused(Refusal::LaneBusy) => {}
            Ending::Refused(Refusal::LaneDiffers(_)) if !self.reconciled.contains(&provider) => {
                self.reconciled.push(provider);
            }
            Ending::Refused(refusal) => {
                self.failures += 1;
                self.exclude(provider, format!("it refused: {refusal}"));
            }
            ending @ (Ending::Failed(_) | Ending::ClientGone) => {
                self.failures += 1;
                self.exclude(provider, explain(ending));
            }
        }
        Ok(None)
    }
}

/// What nobody can do who was looked at.
fn lacked_by_all(choice: &market::Choice) -> Option<Lacking> {
    let lacked = |passed: &market::Passed| match passed.reason {
        market::Reason::Lacking(what) => Some(what),
        _ => None,
    };
    let mut lacked = choice.passed.iter().map(lacked);
    let first = lacked.next()??;
    lacked.all(|what| what.is_some()).then_some(first)
}

/// Why nobody can take a request of this model, as the client is told.
pub(crate) fn nobody(
    (model, need): (&str, &market::Need),
    choice: Option<&market::Choice>,
    reason: Option<String>,
    now: TimeMs,
) -> RequestFailure {
    let model = model.to_owned();
    let retry_at = choice.and_then(|choice| choice.retry_at(now));
    let retry_after_ms = retry_at.map_or(1_000, |at| at.ms_since(now).max(1_000));
    let is_long = |choice: &market::Choice| {
        let mut passed = choice.passed.iter();
        !choice.passed.is_empty()
            && passed.all(|passed| matches!(passed.reason, market::Reason::Context { .. }))
    };
    if choice.is_some_and(is_long) {
        return match need.context_tokens_min {
            // Asked for more than the prompt takes, and than anybody has.
            Some(min) if min > need.prompt_tokens_min => RequestFailure::Invalid {
                param: None,
                problem: format!("no provider of `{model}` has a context of {min} tokens"),
            },
            _ => RequestFailure::TooLong { model },
        };
    }
    if let Some(lacking) = choice.and_then(lacked_by_all) {
        let remedy = lacking.remedy();
        let problem = format!("no provider of `{model}` can do this: {lacking}; {remedy}");
        let param = lacking.field().map(str::to_owned);
        return RequestFailure::Invalid { param, problem };
    }
    if choice.is_some_and(market::Choice::is_full) {
        return RequestFailure::Busy { model, retry_after_ms };
    }
    let mut reasons: Vec<String> = choice
        .into_iter()
        .flat_map(|choice| &choice.passed)
        .filter(|passed| passed.reason != market::Reason::Tried)
        .map(|passed| passed.reason.to_string())
        .chain(reason)
        .collect();
    reasons.sort();
    reasons.dedup();
    if reasons.is_empty() {
        reasons.push("none is connected".into());
    }
    RequestFailure::NoProvider { model, reasons: reasons.join("; "), retry_after_ms }
}
