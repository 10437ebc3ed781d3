//! Books on disk: what was appended is there again, and restating loses nothing.

use types::{Hash32, price::Price};

use super::*;
use crate::accounts::key_id;

const CHANNEL: ChannelId = ChannelId([1; 32]);
const PROVIDER: Address = Address([2; 20]);
const KEY: &str = "pw-0123456789abcdef0123";
const REQUEST: RequestId = RequestId([9; 16]);
const ENDED: Ended = Ended { tokens: 0, steady: TimeMs(0), is_last: true };

fn ask() -> Ask {
    Ask {
        price: Price {
            request_nusd: Nusd(10),
            prompt_nusd_per_mtok: Nusd(50_000_000),
            completion_nusd_per_mtok: Nusd(100_000_000),
        },
        prompt_tokens_max: 10,
        tokens_max: Some(50),
        context_tokens: 1_000,
        budget_left: Ask::ALL,
    }
}

fn settlement(number: u8, opened: &Opened, billed: Nusd) -> Settlement {
    use types::{
        ModelId,
        inference::{CountMethod, FinishReason},
        receipt::{Acknowledgement, Receipt},
        sign::Signed,
    };
    let ack = Acknowledgement {
        request_id: RequestId([number; 16]),
        attempt: 0,
        provider: PROVIDER,
        model: ModelId([3; 32]),
        prompt_hash: Hash32::default(),
        response_hash: Hash32::default(),
        transcript_root: Hash32::default(),
        prompt_tokens: 1,
        delivered_tokens: 1,
        counted: CountMethod::TokenIds,
        price: ask().price,
        channel: CHANNEL,
        lane: opened.held.lane,
        lane_total_before: opened.held.total_before,
        lane_total: Nusd(opened.held.total_before.0 + billed.0),
        report_hash: None,
        finish: FinishReason::Stop,
        ended_at: TimeMs(u64::from(number)),
    };
    let chain_id: types::ChainId = "test".parse().unwrap();
    let acknowledgement = Signed::new(ack, &chain_id, &keys::SecretKey::from_seed([1; 32]));
    Settlement {
        receipt: Receipt { chain_id, report: None, acknowledgement },
        salt: [7; 16],
        key: key_id(KEY),
        billed,
        answered: true,
        model_name: "m".into(),
        started_at: TimeMs(1),
        duration_ms: 2,
        bought: None,
    }
}

fn request(books: &Books, number: u8, billed: u128) {
    let opened = books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).unwrap();
    books.settle(&opened.reserved, settlement(number, &opened, Nusd(billed)), ENDED).unwrap();
}

fn open(folder: &Path) -> Books {
    let books = Books::open(folder).unwrap();
    books.set_channel(CHANNEL, PROVIDER, Nusd::whole(1));
    books
}

/// Used by the key, charged on the channel, receipts found of `1..=count`.
fn check(books: &Books, used: u128, charged: u128, count: u8) {
    assert_eq!(books.keys(TimeMs(0))[0].used, Nusd(used));
    assert_eq!(books.channels()[0].charged, Nusd(charged));
    let found = (1..=count).filter(|n| books.receipt(RequestId([*n; 16]), None).is_ok()).count();
    assert_eq!(found, usize::from(count));
}

#[test]
fn books_are_the_same_after_reopening_and_restating() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::budget(Nusd::whole(1)), TimeMs(0), 10).unwrap();
    request(&books, 1, 100);
    request(&books, 2, 200);
    check(&books, 300, 300, 2);
    drop(books);

    let books = open(folder.path());
    check(&books, 300, 300, 2);
    books.restate().unwrap();
    request(&books, 3, 50);
    check(&books, 350, 350, 3);
    drop(books);

    let books = open(folder.path());
    check(&books, 350, 350, 3);
    assert_eq!(books.recent(9).len(), 3);
    books.restate().unwrap();
    drop(books);
    check(&open(folder.path()), 350, 350, 3);
}

#[test]
fn old_receipts_are_forgotten_and_what_was_used_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::budget(Nusd::whole(1)), TimeMs(0), 10).unwrap();
    request(&books, 1, 100);
    request(&books, 200, 100);
    books.tidy(TimeMs(1_100), 1_000).unwrap();
    assert!(books.receipt(RequestId([1; 16]), None).is_err());
    assert!(books.receipt(RequestId([200; 16]), None).is_ok());
    check(&books, 200, 200, 0);
}

#[test]
fn a_request_that_was_open_at_the_end_holds_nothing_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::budget(Nusd::whole(1)), TimeMs(0), 10).unwrap();
    let opened = books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).unwrap();
    assert_eq!(books.keys(TimeMs(0))[0].reserved, opened.reserved.grant.cost_max);
    let lane = (CHANNEL, opened.held.lane, opened.held.total_before);
    books.cancel(&key_id(KEY), lane, &opened.reserved);
    assert_eq!(books.keys(TimeMs(0))[0].reserved, Nusd::ZERO);
    books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).unwrap();
    drop(books);
    let books = open(folder.path());
    assert_eq!((books.keys(TimeMs(0))[0].reserved, books.in_flight()), (Nusd::ZERO, 0));
    assert!(books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).is_ok());
}

#[test]
fn nothing_begins_that_cannot_be_written_down_and_what_runs_is_billed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::budget(Nusd::whole(1)), TimeMs(0), 10).unwrap();
    let open_one = || books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0));
    let running = open_one().unwrap();
    // The journal cannot go on.
    std::fs::create_dir(folder.path().join("00000002.journal")).unwrap();
    assert!(books.restate().is_err());
    assert!(matches!(open_one(), Err(NotOpened::Journal(JournalError::Broken { .. }))));
    let bought = books.reserve((&key_id(KEY), REQUEST), &ask(), TimeMs(0));
    assert!(matches!(bought, Err(NotOpened::Journal(JournalError::Broken { .. }))));
    let settled = books.settle(&running.reserved, settlement(1, &running, Nusd(100)), ENDED);
    assert!(settled.is_err());
    let key = &books.keys(TimeMs(0))[0];
    assert_eq!((key.used, key.reserved), (Nusd(100), Nusd::ZERO));
}

#[test]
fn a_lease_is_waited_for_by_the_next_order_if_the_first_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::budget(Nusd::whole(1)), TimeMs(0), 10).unwrap();
    let open_one = || {
        let opened = books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0));
        let opened = opened.unwrap();
        let lane = (CHANNEL, opened.held.lane, opened.held.total_before);
        books.cancel(&key_id(KEY), lane, &opened.reserved);
        opened
    };
    let first = open_one();
    let second = open_one();
    assert!(first.held.lease.is_some() && second.held.lease.is_none());
    // The disk may have been faster.
    assert!(second.lease.is_none_or(|lease| Some(lease) == first.lease));
}

#[test]
fn a_key_of_an_older_journal_has_its_budget_and_what_it_used() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    let old = crate::accounts::OldKeyRecord {
        id: key_id(KEY),
        name: "first".into(),
        prefix: "pw-01234".into(),
        budget: Nusd(1_000),
        used: Nusd(400),
        created_at: TimeMs(1),
    };
    books.append(&Record::OldKey(old)).unwrap();
    drop(books);
    let books = open(folder.path());
    let [view] = &books.keys(TimeMs(2))[..] else { panic!("one key") };
    assert_eq!((&view.limits, view.used), (&KeyLimits::budget(Nusd(1_000)), Nusd(400)));
    // And it is restated as a new one.
    books.restate().unwrap();
    drop(books);
    let view = view.clone();
    assert_eq!(open(folder.path()).keys(TimeMs(2)), [view]);
}

#[test]
fn a_receipt_of_an_older_journal_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::budget(Nusd::whole(1)), TimeMs(0), 10).unwrap();
    let opened = books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).unwrap();
    let settled = settlement(1, &opened, Nusd(70));
    let Settlement { receipt, salt, key, billed, answered, .. } = settled.clone();
    let Settlement { model_name, started_at, duration_ms, .. } = settled.clone();
    let old = record::OldSettlement {
        receipt,
        salt,
        key,
        billed,
        answered,
        model_name,
        started_at,
        duration_ms,
    };
    books.append(&Record::OldSettled(Box::new(old))).unwrap();
    drop(books);
    let books = open(folder.path());
    let receipt = books.receipt(RequestId([1; 16]), None).unwrap();
    assert_eq!((receipt.receipt, receipt.bought), (settled.receipt, None));
    assert_eq!(books.keys(TimeMs(0))[0].used, Nusd(70));
}

#[test]
fn a_revoked_key_pays_for_nothing_and_leaves_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    let put = |name: &str, key: &str| {
        books.put_key(name, key, KeyLimits::default(), TimeMs(0), 1).map_err(|e| e.to_string())
    };
    put("first", KEY).unwrap();
    request(&books, 1, 100);
    assert!(put("second", "pw-0123456789abcdef0124").unwrap_err().contains("limit of 1 keys"));
    books.revoke_key("first", TimeMs(5)).unwrap();
    assert_eq!(books.admits(&key_id(KEY), TimeMs(5)), Err(NotAdmitted::Unknown));
    assert!(books.revoke_key("first", TimeMs(6)).is_err(), "no key of this name is left");
    assert!(put("first", KEY).unwrap_err().contains("revoked"), "nor does it come back");
    put("first", "pw-0123456789abcdef0124").unwrap();
    // What it used is still its own.
    assert_eq!(books.usage(RequestId([1; 16]), Some(&[key_id(KEY)])).unwrap().cost_nusd, Nusd(100));
    let used: Vec<(Nusd, bool)> = books
        .keys(TimeMs(0))
        .into_iter()
        .map(|view| (view.used, view.revoked_at.is_some()))
        .collect();
    assert_eq!(used.len(), 2);
    assert!(used.contains(&(Nusd(100), true)) && used.contains(&(Nusd(0), false)), "{used:?}");
}

#[test]
fn a_request_of_two_parts_is_on_one_bill_when_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::default(), TimeMs(0), 10).unwrap();
    for (ended_at, billed) in [(100, 70), (300, 30)] {
        let opened =
            books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).unwrap();
        let mut part = settlement(1, &opened, Nusd(billed));
        part.receipt.acknowledgement.value.ended_at = TimeMs(ended_at);
        books.settle(&opened.reserved, part, ENDED).unwrap();
    }
    let check = |books: &Books| {
        let id = RequestId([1; 16]);
        assert_eq!(books.ended_between(TimeMs(0), TimeMs(200)), []);
        assert_eq!(books.ended_between(TimeMs(200), TimeMs(400)), [id]);
        let usage = books.usage(id, None).unwrap();
        assert_eq!((usage.cost_nusd, usage.completion_tokens), (Nusd(100), 2));
        assert_eq!(books.receipt(id, None).unwrap().earlier.len(), 1);
    };
    check(&books);
    // The first part's age is not the request's.
    books.tidy(TimeMs(1_150), 1_000).unwrap();
    check(&books);
    drop(books);
    check(&open(folder.path()));
}

#[test]
fn broken_answers_cost_the_gateway_a_share_of_what_their_key_spent() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::default(), TimeMs(0), 10).unwrap();
    let lose = |number: u8, billed: u128, lost: u128| {
        let opened =
            books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).unwrap();
        let mut part = settlement(number, &opened, Nusd(billed));
        let total = &mut part.receipt.acknowledgement.value.lane_total;
        *total = total.saturating_add(Nusd(lost));
        books.settle(&opened.reserved, part, ENDED).unwrap();
    };
    lose(1, 0, 10_000_000);
    assert!(books.may_lose(&key_id(KEY), &REQUEST));
    lose(2, 0, 1);
    assert!(!books.may_lose(&key_id(KEY), &REQUEST));
    lose(3, 10, 0);
    assert!(books.may_lose(&key_id(KEY), &REQUEST), "it has spent more since");
}

#[test]
fn what_was_bought_is_signed_when_its_receipt_is_read_and_by_no_other_key() {
    let folder = tempfile::tempdir().unwrap();
    let payer = |seed: u8| -> Arc<dyn Sign> { Arc::new(keys::SecretKey::from_seed([seed; 32])) };
    let books = open(folder.path());
    books.put_key("first", KEY, KeyLimits::budget(Nusd::whole(1)), TimeMs(0), 10).unwrap();
    let opened = books.open_request((&key_id(KEY), REQUEST), CHANNEL, &ask(), TimeMs(0)).unwrap();
    let signed = settlement(1, &opened, Nusd(100));
    let mut left = signed.clone();
    let acknowledgement = signed.receipt.acknowledgement.clone();
    left.receipt.acknowledgement = unsigned(acknowledgement.value, payer(1).public_key());
    books.settle(&opened.reserved, left, ENDED).unwrap();
    drop(books);

    let id = RequestId([1; 16]);
    let books = open(folder.path()).signed_by(payer(1));
    assert_eq!(books.receipt(id, None).unwrap().receipt, signed.receipt);
    drop(books);
    let books = open(folder.path()).signed_by(payer(2));
    let refused = books.receipt(id, None);
    assert!(matches!(refused, Err(ReceiptLookupError::OtherPayer { .. })), "{refused:?}");
    assert!(books.usage(id, None).is_ok(), "what it used needs no signature");
}
