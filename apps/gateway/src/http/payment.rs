//! Callers without an API key: what they are told a request costs, the payment in a header, and what is said of it in
//! the answer.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use types::{Hash32, Nusd, RequestId, inference::InferenceRequest, payment::Payment, sign::Signed};
use wire::api::x402::{self, PaymentPayload, PaymentResponse};

use super::{Reply, api_error, bearer, generate::Refused, keyless, text_value};
use crate::{
    accounts::{KeyId, key_id},
    dispatch::{self, Job, Needs},
    error::{PaymentProblem, RequestFailure},
    keyring,
    payments::{self, Payer, Quote, X402_KEY},
    shared::Shared,
};

pub(super) const REQUIRED: HeaderName = HeaderName::from_static(x402::REQUIRED);
const SIGNATURE: HeaderName = HeaderName::from_static(x402::SIGNATURE);
const RESPONSE: HeaderName = HeaderName::from_static(x402::RESPONSE);

/// What a request's header says of its payment, if it has one.
pub(super) type Given = Option<Result<Signed<Payment>, RequestFailure>>;

/// Who asks for something that costs.
pub(super) struct Caller {
    key: KeyId,
    /// If it is none that a key pays for: what it sent to pay itself.
    own: Option<Given>,
}

/// The payment in a request's headers, and the request's id: that of the payment, if there is one.
pub(super) fn given(shared: &Shared, headers: &HeaderMap) -> (Given, RequestId) {
    let header = headers.get(SIGNATURE).filter(|_| shared.payments.key().is_some());
    let given = header.map(|header| {
        let invalid = |why: String| {
            let problem = PaymentProblem::Invalid(format!("the header {SIGNATURE} {why}"));
            RequestFailure::Payment { problem }
        };
        let payload: PaymentPayload =
            x402::decode(header.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let network = x402::network(&shared.config.chain_id);
        let accepted = &payload.accepted;
        let is_ours = payload.x402_version == x402::VERSION
            && accepted.scheme == x402::SCHEME
            && accepted.network == network;
        if !is_ours {
            return Err(invalid(format!(
                "is not of x402 version {}, scheme {}, network {network}",
                x402::VERSION,
                x402::SCHEME
            )));
        }
        Ok(payload.payload)
    });
    let id = match &given {
        Some(Ok(payment)) => payment.request_id(),
        Some(Err(_)) | None => super::new_id(),
    };
    (given, id)
}

/// Who asks: a payment speaks for itself, else there is a key, or it may still come to a payment.
pub(super) async fn caller(
    shared: &Shared,
    headers: &HeaderMap,
    given: Given,
) -> Result<Caller, RequestFailure> {
    let Some(own) = shared.payments.key() else {
        return Ok(Caller { key: super::recognize(shared, headers).await?, own: None });
    };
    // Clients that insist on a key are given this word.
    let key = bearer(headers)?.filter(|key| given.is_none() && *key != X402_KEY);
    let key = match key {
        Some(key) => Some(key_id(key)),
        None if given.is_none() => match keyless(shared, headers).await {
            Err(RequestFailure::NoKey) => None,
            key => Some(key?),
        },
        None => None,
    };
    let caller = match key {
        Some(key) => Caller { key, own: None },
        None => Caller { key: own, own: Some(given) },
    };
    keyring::recognizes(shared, &caller.key).await.map(|()| caller)
}

impl Caller {
    /// The key in whose name it asks.
    pub(super) fn key(&self) -> &KeyId {
        &self.key
    }

    /// The hash that a payment names its request by, if it is not a key that pays.
    pub(super) fn request_hash(&self, path: &str, body: &[u8]) -> Option<Hash32> {
        self.own.as_ref().map(|_| Payment::request_hash(path, body))
    }

    /// Who pays for a request of this path and hash, and how it can be paid where that is the caller itself.
    pub(super) async fn payer(
        self,
        shared: &Arc<Shared>,
        (path, hash): (&str, Option<Hash32>),
        model_name: &str,
        request: &InferenceRequest,
        needs: &Needs,
    ) -> Result<(Payer, Option<Quote>), Refused> {
        let (Some(own), Some(hash)) = (self.own, hash) else { return Ok((self.key.into(), None)) };
        let model = dispatch::known_model(shared, &self.key, model_name).await?;
        let quote = Quote::new((path, hash), (model_name, model), request, needs);
        let accepted = match own {
            Some(Ok(payment)) => payments::accept(shared, payment, hash).await,
            Some(Err(failure)) => Err(failure),
            None => Err(RequestFailure::Payment { problem: PaymentProblem::None }),
        };
        match accepted {
            Ok(own) => Ok((Payer { key: self.key, own: Some(own) }, Some(quote))),
            Err(failure) => Err(refused(shared, Some(&quote), failure)),
        }
    }
}

/// A failure as it is told: one for want of payment with what to pay.
pub(super) fn refused(shared: &Shared, quote: Option<&Quote>, failure: RequestFailure) -> Refused {
    let (RequestFailure::Payment { .. }, Some(quote)) = (&failure, quote) else {
        return failure.into();
    };
    match quote.required(shared, failure.to_string()) {
        Ok(required) => Refused::Payment(api_error(&failure), x402::encode(&required)),
        Err(nobody) => nobody.into(),
    }
}

/// Says in the answer of a request that its caller pays for what it was charged, if that is known.
pub(super) fn tell(reply: &mut Reply, job: &Job, amount: Option<Nusd>) {
    let Some(own) = &job.own else { return };
    let response = PaymentResponse {
        success: true,
        payer: own.payer,
        transaction: job.request_id,
        network: x402::network(&job.shared.config.chain_id),
        amount,
    };
    reply.headers_mut().insert(RESPONSE, text_value(&x402::encode(&response)));
}
