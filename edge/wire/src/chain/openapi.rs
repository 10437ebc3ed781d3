//! The chain API as an OpenAPI 3.1 document, `docs/spec/chain-api.openapi.json`.
//!
//! Paths stand in one table. Schemas are read off real values of the types that are sent, through the
//! same serde code, so a field cannot be missing here and present on the wire. Numbers that may
//! exceed 2⁵³ and all ids are strings.

mod audits;

use serde::Serialize;
use serde_json::{Map, Value, json};
use types::{
    Address, ChannelId, Hash32, Height, Lane, ModelId, Nonce, Nusd, PublicKey, Signature, TimeMs,
    TxId, Watt,
    block::BlockHeader,
    channel::ChannelTerms,
    consensus::{Certificate, CommitSignature, ValidatorPower, ValidatorSet},
    genesis::{Bucket, Genesis, GenesisAccount, GenesisValidator, GenesisVesting, Params},
    price::Price,
    sign::Signed,
    stake::{CommissionTerms, OperatorId},
    state::{Shares, StateKey},
    tree::{TreeLeaf, TreeProof},
    tx::{Action, Tx},
};

use audits::{BEACON, auditor, audits, audits_of_provider, calibration, exclusion, round};

use super::{
    AccountView, BlockView, BudgetView, ChainStatus, ChannelView, ErrorBody, Event, EventPage,
    EventView, GatewayView, LaneView, LightBlock, OperatorView, OracleView, ParamView, ProvenEntry,
    ProviderView, StakeView, StateProof, StateProofs, SupplyView, TxOutcome, TxResult, TxView,
    UnbondingView, ValidatorView,
};

/// One path of the API.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Lower case, as OpenAPI writes it.
    pub method: &'static str,
    /// With `{name}` for what varies.
    pub path: &'static str,
    pub summary: &'static str,
    /// Names after `?`.
    query: &'static [&'static str],
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    One(&'static str),
    Many(&'static str),
    /// Server-sent events whose data has this schema.
    Stream(&'static str),
}

use Answer::{Many, One, Stream};

const PAGE: &[&str] = &["after", "limit"];

const fn get(
    path: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    answer: Answer,
) -> Route {
    Route { method: "get", path, summary, query, answer }
}

const fn post(path: &'static str, summary: &'static str) -> Route {
    Route { method: "post", path, summary, query: &[], answer: One("TxOutcome") }
}

/// Every path, in the order of the document.
pub const ROUTES: &[Route] = &[
    get("/v1/status", "Where the chain stands, the price, the parameters", &[], One("ChainStatus")),
    get("/v1/genesis", "The genesis document", &[], One("Genesis")),
    get("/v1/supply", "WATT and credits, by where they are", &[], One("SupplyView")),
    get("/v1/params", "Every parameter with its bounds", &[], Many("ParamView")),
    get(
        "/v1/accounts/{address}",
        "An account; zeros if it was never used",
        &[],
        One("AccountView"),
    ),
    get("/v1/accounts/{address}/stakes", "What it has staked", &[], Many("StakeView")),
    get(
        "/v1/channels",
        "Channels of a payer or receiver, by id",
        &["party", "after", "limit"],
        Many("ChannelView"),
    ),
    get("/v1/channels/{id}", "A channel", &[], One("ChannelView")),
    get("/v1/providers", "Providers, by operator", PAGE, Many("ProviderView")),
    get("/v1/providers/{operator}", "A provider", &[], One("ProviderView")),
    get("/v1/gateways", "Gateways, by operator", PAGE, Many("GatewayView")),
    get(
        "/v1/validators",
        "Validators with and without a seat, by operator",
        PAGE,
        Many("ValidatorView"),
    ),
    get(
        "/v1/operators/{role}/{account}",
        "The pool of stake behind an operator; the role is validator or provider",
        &[],
        One("OperatorView"),
    ),
    get("/v1/proofs/accounts/{address}", "An account with its proof", &[], One("StateProof")),
    get("/v1/proofs/channels/{id}", "A channel with its proof", &[], One("StateProof")),
    get("/v1/proofs/channels/{id}/lanes/{lane}", "A lane with its proof", &[], One("StateProof")),
    get("/v1/proofs/providers/{operator}", "A provider with its proof", &[], One("StateProof")),
    get("/v1/proofs/operators/{role}/{account}", "A pool with its proof", &[], One("StateProof")),
    get("/v1/proofs/gateways/{operator}", "A gateway with its proof", &[], One("StateProof")),
    get(
        "/v1/proofs/channels/{id}/lanes",
        "A channel and all its lanes, each with its proof",
        &[],
        One("StateProofs"),
    ),
    get("/v1/proofs/auditors/{operator}", "An auditor with its proof", &[], One("StateProof")),
    get("/v1/proofs/beacon", "The newest beacon with its proof", &[], One("StateProof")),
    get(
        "/v1/proofs/rounds/{provider}/{sequence}",
        "An open round of audits with its proof",
        &[],
        One("StateProof"),
    ),
    get(
        "/v1/proofs/standings/{provider}",
        "A provider's standing with its proof",
        &[],
        One("StateProof"),
    ),
    get(
        "/v1/proofs/standings/{provider}/{model}",
        "A provider's standing with one model, with its proof",
        &[],
        One("StateProof"),
    ),
    get(
        "/v1/audits",
        "Open rounds of audits, by commitment, and the last closed ones",
        PAGE,
        One("AuditsView"),
    ),
    get(
        "/v1/audits/{provider}",
        "All that is kept of a provider's audits",
        &[],
        One("ProviderAuditsView"),
    ),
    get("/v1/rounds/{provider}/{sequence}", "An open round of audits", &[], One("RoundView")),
    get("/v1/auditors", "Where auditors are reached, by operator", PAGE, Many("AuditorView")),
    get("/v1/auditors/{operator}", "Where one auditor is reached", &[], One("AuditorView")),
    get(
        "/v1/exclusions",
        "Providers and models that gateways do not choose, by both",
        PAGE,
        Many("ExclusionView"),
    ),
    get("/v1/beacons/latest", "The newest beacon", &[], One("Beacon")),
    get(
        "/v1/calibrations",
        "Honest means in force, by model and kind of machine",
        PAGE,
        Many("CalibrationView"),
    ),
    get(
        "/v1/light/latest",
        "The newest header with its certificate and validators",
        &[],
        One("LightBlock"),
    ),
    get(
        "/v1/light/{height}",
        "The header of a height with its certificate and validators",
        &[],
        One("LightBlock"),
    ),
    get("/v1/blocks", "Blocks from a height upwards", &["from", "limit"], Many("BlockView")),
    get("/v1/blocks/{height}", "A block", &[], One("BlockView")),
    get("/v1/txs/{id}", "What became of a transaction", &[], One("TxOutcome")),
    post("/v1/txs", "Submits a transaction and waits until it is in a durable block or refused"),
    post("/v1/simulations", "What a transaction would do in the next block, without doing it"),
    get(
        "/v1/events",
        "Events of whole blocks from a height upwards",
        &["from_height", "limit"],
        One("EventPage"),
    ),
    get(
        "/v1/events/stream",
        "Events as they happen, a message per block; `Last-Event-ID` takes a stream up again",
        &["from_height"],
        Stream("EventPage"),
    ),
];

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Peerwatt chain API",
            "version": "1",
            "description": "Amounts are base units (10⁻⁹ of a WATT or a US dollar) as decimal text. \
                Ids are hexadecimal or bech32m text. Times are milliseconds since 1970. An answer that \
                is not 200 has the schema ErrorBody.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn operation(route: &Route) -> Value {
    let in_path =
        route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .chain(route.query.iter().map(
            |name| json!({ "name": name, "in": "query", "required": *name == "party", "schema": { "type": "string" } }),
        ))
        .collect();
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let (media, schema) = match route.answer {
        One(name) => ("application/json", reference(name)),
        Many(name) => ("application/json", json!({ "type": "array", "items": reference(name) })),
        Stream(name) => ("text/event-stream", reference(name)),
    };
    let error = json!({
        "description": "Refused, with a stable code",
        "content": { "application/json": { "schema": reference("ErrorBody") } },
    });
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "OK", "content": { media: { "schema": schema } } },
            "default": error,
        },
    });
    if route.method == "post" {
        operation["requestBody"] = json!({
            "required": true,
            "description": "Canonical bytes of a signed transaction, see docs/spec/transactions.md",
            "content": { "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } },
        });
    }
    operation
}

fn schemas() -> Value {
    let mut all = Map::new();
    let mut add = |name: &str, value: Value| all.insert(name.to_owned(), schema_of(&value));
    add("ChainStatus", sample(status()));
    add("Genesis", sample(genesis()));
    add("SupplyView", sample(supply()));
    add("ParamView", sample(param()));
    add("AccountView", sample(account()));
    add("StakeView", sample(stake()));
    add("ChannelView", sample(channel()));
    add("ProviderView", sample(provider()));
    add("GatewayView", sample(gateway()));
    add("ValidatorView", sample(validator()));
    add("OperatorView", sample(operator()));
    add("StateProof", sample(proof()));
    add("StateProofs", sample(proofs()));
    add("AuditsView", sample(audits()));
    add("ProviderAuditsView", sample(audits_of_provider()));
    add("RoundView", sample(round()));
    add("AuditorView", sample(auditor()));
    add("ExclusionView", sample(exclusion()));
    add("Beacon", sample(BEACON));
    add("CalibrationView", sample(calibration()));
    add("LightBlock", sample(light_block()));
    add("BlockView", sample(block()));
    add("TxOutcome", sample(outcome()));
    add("EventPage", sample(events()));
    add("ErrorBody", sample(ErrorBody { code: String::new(), message: String::new() }));
    Value::Object(all)
}

fn sample<T: Serialize>(value: T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// What a value looks like. A tagged value may be of other kinds, so its fields are left open.
fn schema_of(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(_) => json!({ "type": "integer" }),
        Value::String(_) => json!({ "type": "string" }),
        Value::Array(items) => match items.first() {
            Some(item) => json!({ "type": "array", "items": schema_of(item) }),
            None => json!({ "type": "array" }),
        },
        Value::Object(fields) => {
            if let Some(tag) = ["type", "status"].into_iter().find(|tag| fields.contains_key(*tag))
            {
                return json!({
                    "type": "object",
                    "required": [tag],
                    "properties": { tag: { "type": "string" } },
                    "additionalProperties": true,
                });
            }
            let properties: Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), schema_of(value))).collect();
            json!({ "type": "object", "properties": properties })
        }
    }
}

const ADDRESS: Address = Address([0; 20]);
const KEY: PublicKey = PublicKey([0; 32]);
const HASH: Hash32 = Hash32([0; 32]);
const WATT: Watt = Watt(0);
const USD: Nusd = Nusd(0);
const TIME: TimeMs = TimeMs(0);
const CHANNEL: ChannelId = ChannelId([0; 32]);
const MODEL: ModelId = ModelId([0; 32]);

/// A name that every text of the samples may have.
fn name() -> String {
    "name".to_owned()
}

fn chain_id() -> types::ChainId {
    // `name` is one by the rules of its type; without it the sample would be null.
    name().parse().expect("a plain name is a chain id")
}

pub(super) fn status() -> ChainStatus {
    ChainStatus {
        chain_id: chain_id(),
        genesis_hash: HASH,
        height: Height(1),
        time: TIME,
        app_hash: HASH,
        nusd_per_watt: USD,
        oracle: OracleView { average: USD, counted_at: TIME, period: 0 },
        breaker: name(),
        params: Params::standard(),
        mempool_txs: 0,
        version: name(),
    }
}

pub(super) fn genesis() -> Genesis {
    Genesis {
        chain_id: chain_id(),
        time: TIME,
        params: Params::standard(),
        nusd_per_watt: USD,
        accounts: vec![GenesisAccount { address: ADDRESS, balance: WATT }],
        vesting: vec![GenesisVesting {
            bucket: Bucket::Community,
            beneficiary: Some(ADDRESS),
            total: WATT,
            start: TIME,
            cliff: TIME,
            end: TIME,
        }],
        validators: vec![GenesisValidator {
            consensus_key: KEY,
            operator: ADDRESS,
            moniker: name(),
            stake: WATT,
            commission: CommissionTerms::ALL,
        }],
    }
}

fn supply() -> SupplyView {
    SupplyView {
        watt_total: WATT,
        watt_genesis: WATT,
        watt_minted: WATT,
        watt_burned: WATT,
        watt_max: WATT,
        watt_vault: WATT,
        watt_treasury: WATT,
        watt_stakers: WATT,
        watt_bonded: WATT,
        watt_insurance: WATT,
        budgets: vec![BudgetView {
            bucket: Bucket::Community,
            total: WATT,
            vested: WATT,
            claimed: WATT,
            beneficiary: Some(ADDRESS),
        }],
        credits_outstanding: USD,
        credits_issued: USD,
        credits_settled: USD,
        credits_refunded: USD,
        claims_refunded: USD,
        credits_pending: USD,
        nusd_per_watt: USD,
    }
}

fn param() -> ParamView {
    ParamView { name: name(), value: name(), unit: name(), min: name(), max: name() }
}

fn account() -> AccountView {
    AccountView { address: ADDRESS, watt: WATT, credits: USD, nonce: Nonce(0), fee_debt: WATT }
}

fn stake() -> StakeView {
    StakeView {
        operator: OperatorId::validator(ADDRESS),
        stake: WATT,
        rewards: WATT,
        unbonding: vec![UnbondingView { balance: WATT, matures_at: TIME }],
    }
}

fn channel() -> ChannelView {
    ChannelView {
        id: CHANNEL,
        terms: ChannelTerms {
            payer: ADDRESS,
            payer_key: KEY,
            receiver: ADDRESS,
            salt: 0,
            withdraw_delay_ms: 0,
        },
        deposit: USD,
        claimed: USD,
        settled: USD,
        refunded: Nusd::ZERO,
        returned: USD,
        lanes: vec![LaneView { lane: Lane(0), claimed: USD }],
        opened_at: Height(1),
        withdraw_at: Some(TIME),
        open: true,
    }
}

pub(super) fn provider() -> ProviderView {
    ProviderView {
        operator: ADDRESS,
        node_key: KEY,
        moniker: name(),
        region: name(),
        class: name(),
        models: vec![ModelId([0; 32])],
        price_max: Some(Price {
            request_nusd: USD,
            prompt_nusd_per_mtok: USD,
            completion_nusd_per_mtok: USD,
        }),
        bond: WATT,
        bond_required: WATT,
        delegated: WATT,
        earned: WATT,
        pending: USD,
        registered_at: TIME,
        probation_until: TIME,
        leaving: false,
        jailed: false,
        heartbeats: 0,
        seen_period: 0,
        channels_open: 0,
    }
}

fn gateway() -> GatewayView {
    GatewayView { operator: ADDRESS, node_key: KEY, moniker: name(), addrs: vec![name()] }
}

fn operator() -> OperatorView {
    OperatorView {
        id: OperatorId::validator(ADDRESS),
        tokens: WATT,
        shares: Shares(0),
        own: WATT,
        commission: CommissionTerms::ALL,
        commission_due: WATT,
        jailed_until: Some(TIME),
        tombstoned: false,
    }
}

fn validator() -> ValidatorView {
    ValidatorView {
        operator: ADDRESS,
        consensus_key: KEY,
        moniker: name(),
        power: Some(1),
        missed: 0,
        pool: operator(),
    }
}

fn header() -> BlockHeader {
    BlockHeader {
        height: Height(1),
        time: TIME,
        parent: HASH,
        txs_root: HASH,
        last_certificate: HASH,
        validators: HASH,
        next_validators: HASH,
        app_hash: HASH,
        proposer: KEY,
    }
}

fn light_block() -> LightBlock {
    let signature = CommitSignature { signer: KEY, signature: Signature([0; 64]) };
    LightBlock {
        header: header(),
        certificate: Certificate {
            height: Height(1),
            round: 0,
            block: HASH,
            signatures: vec![signature],
        },
        validators: ValidatorSet::new([ValidatorPower { key: KEY, power: 1 }]),
    }
}

fn signed<T>(value: T) -> Signed<T> {
    Signed { value, signer: KEY, signature: Signature([0; 64]) }
}

fn tree_proof() -> TreeProof {
    TreeProof { leaf: Some(TreeLeaf { path: HASH, value: HASH }), siblings: vec![HASH] }
}

fn proof() -> StateProof {
    let LightBlock { header, certificate, validators } = light_block();
    StateProof {
        chain_id: chain_id(),
        key: StateKey::Account { address: ADDRESS },
        value: Some(name()),
        proof: tree_proof(),
        header,
        certificate,
        validators,
    }
}

fn proofs() -> StateProofs {
    let LightBlock { header, certificate, validators } = light_block();
    let key = StateKey::Channel { id: CHANNEL };
    let entries = vec![ProvenEntry { key, value: Some(name()), proof: tree_proof() }];
    StateProofs { chain_id: chain_id(), entries, header, certificate, validators }
}

fn event() -> Event {
    Event { kind: name(), fields: vec![(name(), name())] }
}

fn outcome() -> TxOutcome {
    TxOutcome {
        id: TxId([0; 32]),
        height: Height(1),
        fee: WATT,
        result: TxResult::Applied { events: vec![event()] },
    }
}

fn block() -> BlockView {
    let tx = Tx {
        chain_id: chain_id(),
        nonce: Nonce(0),
        fee_max: WATT,
        tip: WATT,
        valid_until: Some(TIME),
        action: Action::Heartbeat,
    };
    BlockView {
        hash: HASH,
        header: header(),
        txs: vec![TxView { outcome: outcome(), sender: ADDRESS, tx: signed(tx) }],
        events: vec![event()],
    }
}

fn events() -> EventPage {
    let view = EventView { height: Height(1), time: TIME, tx: Some(TxId([0; 32])), event: event() };
    EventPage { events: vec![view], next_height: Height(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_EXPECT=1 cargo test -p wire` writes the file anew.
    #[test]
    fn the_document_is_that_of_the_code() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        expect_test::expect_file!["../../../../docs/spec/chain-api.openapi.json"].assert_eq(&text);
    }

    #[test]
    fn no_sample_leaves_a_field_without_a_type() {
        fn check(path: &str, schema: &Value) {
            assert!(schema.get("type").is_some(), "{path} has no type");
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                check(&format!("{path}.{name}"), field);
            }
            if let Some(items) = schema.get("items") {
                check(&format!("{path}[]"), items);
            }
        }
        for (name, schema) in schemas().as_object().unwrap() {
            check(name, schema);
        }
    }
}
