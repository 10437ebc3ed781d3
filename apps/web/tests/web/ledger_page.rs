//! What the page of the ledger shows, from fixed values.

use expect_test::expect;

use crate::{
    fixture::busy,
    page,
    pages::{check, section, visible},
};

#[tokio::test]
async fn the_ledger_in_figures() {
    check(
        busy(),
        "/ledger",
        "state",
        expect![[r#"
        State
        Network
        peerwatt-local
        Height
        1 284
        Last block
        2026-11-21 03:59:18 UTC
        Validators
        1 seat of 2 registered,
        10 000
        WATT
        staked
        Waiting transactions
        1
        State digest
        4ba69735ca…0e4e
        Genesis digest
        aeebad4a79…718e
        Validator's version
        0.1.0"#]],
    )
    .await;
    check(
        busy(),
        "/ledger",
        "price",
        expect![[r#"
        Price of a WATT
        In force
        $1.14
        Average
        $1.138
        over 30 min
        Voted on
        2026-11-21 03:58:18 UTC"#]],
    )
    .await;
    check(
        busy(),
        "/ledger",
        "split",
        expect![[r#"
        Split of a payment
        provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
        provider 60 %
        stakers 15 %
        burned 15 %
        treasury 10 %
        Spread on credits
        0.25 %
        Fee of a transaction
        0.001
        WATT
        +
        0.000 001
        a byte
        Claims are held back
        1 d
        Provider's bond
        $5.00
        at least
        Withheld until bonded
        20 %
        Unbonding takes
        21 d"#]],
    )
    .await;
    check(
        busy(),
        "/ledger",
        "supply",
        expect![[r#"
        Supply
        Supply
        400 012 000.34
        WATT
        At genesis
        400 000 000
        WATT
        Minted since
        12 000.4
        WATT
        Burned
        0.062 1
        WATT
        Vault
        87.719 3
        WATT
        Treasury
        0.041 4
        WATT
        Rewards not withdrawn
        0.062 1
        WATT
        Staked
        10 000
        WATT
        Insurance
        0.012 5
        WATT
        Never more than
        1 000 000 000
        WATT"#]],
    )
    .await;
    check(busy(), "/ledger", "credits", expect![[r#"
        Credits
        Outstanding
        $99.999 8
        Claimed, held back
        $0.000 042
        Issued so far
        $100.00
        Settled so far
        $0.000 188
        Refunded so far
        $0
        Credits are US dollars that pay for requests; WATT paid for them wait in the vault. What a provider claims is held back for the audit window and then settled."#]]).await;
}

#[tokio::test]
async fn a_price_that_is_too_old_and_a_paused_breaker_are_told() {
    let mut source = busy();
    let status = &mut source.ledger.as_mut().unwrap().status;
    status.oracle.counted_at = types::TimeMs(status.time.0 - 2 * 60 * 60 * 1_000);
    status.breaker = "paused".to_owned();
    let html = page(source, "/ledger").await;
    expect![[r#"
        Price of a WATT
        In force
        $1.14
        Average
        $1.138
        over 30 min
        Voted on
        2026-11-21 01:59:18 UTC
        The vote was 2 h old at the last block, more than 1 h: what needs a price waits for a new one."#]].assert_eq(&visible(section(&html, "price")));
    expect![[r#"
        Credits
        Outstanding
        $99.999 8
        Claimed, held back
        $0.000 042
        Issued so far
        $100.00
        Settled so far
        $0.000 188
        Refunded so far
        $0
        Purchases of credits are paused: the vault no longer covers enough of what is outstanding. Credits that were bought keep paying for requests.
        Credits are US dollars that pay for requests; WATT paid for them wait in the vault. What a provider claims is held back for the audit window and then settled."#]].assert_eq(&visible(section(&html, "credits")));
}

#[tokio::test]
async fn blocks_with_transactions_and_events() {
    check(
        busy(),
        "/ledger",
        "blocks",
        expect![[r#"
            Latest blocks
            Latest first. Amounts in events are base units: 10⁻⁹ of a WATT or of a dollar.
            Block 1 284
            2026-11-21 03:59:18 UTC
            · 1 transaction ·
            cf83d0ce44…d129
            Redeem vouchers
            by
            watt1ysvxc…uy8v
            · 1 lane · fee
            0.001 25
            WATT
            channel.claimed
            channel
            0909090909…0909
            credits
            187650
            channel.settled
            channel
            0909090909…0909
            watt
            164605
            burned
            24690
            Block 1 283
            2026-11-21 03:49:18 UTC
            · 1 transaction ·
            8a4a8ad2c5…053c
            Transfer
            by
            watt1wx3hg…mxmj
            ·
            2.5
            WATT
            to
            watt1k9elw…zvxg
            · fee
            0.001 25
            WATT
            balance.too_low
            the account holds 1.2 WATT, 2.5 are needed
            Block 1 282
            2026-11-21 03:39:18 UTC
            · 1 transaction ·
            e565cbb2ed…5aa0
            Open channel
            by
            watt1k9elw…zvxg
            ·
            $5.00
            to
            watt1ysvxc…uy8v
            · fee
            0.001 25
            WATT
            Block 1 281
            2026-11-21 03:29:18 UTC
            · 1 transaction ·
            8df979b08c…d2c6
            Buy credits
            by
            watt1k9elw…zvxg
            ·
            $100.00
            · fee
            0.001 25
            WATT
            Block 1 280
            2026-11-21 03:19:18 UTC
            · 1 transaction ·
            082b409f3b…e0fe
            Register provider
            by
            watt1ysvxc…uy8v
            ·
            attic
            , bond
            0
            WATT
            · fee
            0.001 25
            WATT"#]],
    )
    .await;
}
