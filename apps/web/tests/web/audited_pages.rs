//! What the pages of an audited provider and of a round show.

use axum::http::{StatusCode, header};
use expect_test::expect;

use crate::{
    answer,
    audits_page::{ATTIC, path_of},
    fixture::{
        audits::{enforced, picture, round},
        busy,
    },
    get, page,
    pages::{check, section},
    policy, text,
};

#[tokio::test]
async fn a_provider_that_was_slashed() {
    let path = path_of(5, None);
    check(
        enforced(),
        &path,
        "standing",
        expect![[r#"
            Audits of
            basement
            watt100s6ke7exzxa229ndqhrnc95xf8pev20xg4dyk
            Reputation
            5.88 %
            Receipts audited
            100 %
            Passes since a failure
            0
            Waiting commitments
            0
            Escalated: everything of it is audited; ends
            2026-11-22 02:45:00 UTC
            .
            Held: its claims are not settled; ends
            2026-11-22 02:45:00 UTC
            .
            Missing: it has given no opening since
            2026-11-20 21:00:00 UTC
            . Its claims wait, and go back to who paid if that takes longer than 3 d.
            Slashed: what it claims goes back to who paid."#]],
    )
    .await;
    check(enforced(), &path, "model-0", expect![[r#"
        Evidence on
        llama3.1:8b-instruct-q4_K_M
        enforced
        suspended
        delisted
        Evidence in nats over 1 795 scored tokens, in 4 pieces; the table has the figures.
        0
        10
        20
        30
        40
        50
        60
        0
        1 795 tokens
        escalate 9.2
        paired 13.8
        alone 20.7
        piece 1, L1: 3.100 nats
        piece 1, L2: 8.204 nats
        piece 2, L1: 16.330 nats
        piece 2, L2: 22.415 nats
        piece 3, L1: 27.904 nats
        piece 3, L2: 71.660 nats
        piece 4, L1: 24.018 nats
        piece 4, L2: 38.112 nats
        Quality
        91.26 %
        Suspended until
        its quality is 97 % again
        Delisted until
        2026-12-21 02:45:00 UTC
        L1, by log-probabilities
        L2, by draws
        P, by projections
        hollow: without consequence
        Nats against the provider, over the tokens that were scored, piece after piece: each begins at 0 with its first token, and its mark is at its last. An arrow lies beyond the picture. From
        escalate
        on it is worth a closer look;
        paired
        is enough where two sets of answers reach it on two kinds of machine;
        alone
        is reached by accident once in 10⁹ at most.
        Evidence on 627b5e69ca…2e0d, the oldest first
        Piece
        Found
        Round
        Verifier
        Tokens
        So far
        L1, nats
        L2, nats
        P, nats
        ln E
        Drawn again
        Explained by
        Counts
        1
        2026-11-20 05:00:00 UTC
        …/14
        north
        on
        cpu_x86
        120
        120
        3.100
        8.204
        –
        7.510
        2 answers: 118 match, 2 within rounding, 0 do not
        –
        no
        2
        2026-11-20 06:00:00 UTC
        …/16
        north
        on
        cpu_x86
        402
        522
        16.330
        22.415
        –
        21.721
        2 answers: 400 match, 2 within rounding, 0 do not
        –
        no
        3
        2026-11-20 07:30:00 UTC
        …/19
        north
        on
        cpu_x86
        655
        1 177
        27.904
        71.660
        –
        70.966
        2 answers: 653 match, 2 within rounding, 0 do not
        bee98bf120…67e1
        , cheaper, by 31.208 nats
        no
        4
        2026-11-20 07:30:00 UTC
        …/19
        south
        on
        cuda_mmq
        618
        1 795
        24.018
        38.112
        –
        37.418
        2 answers: 616 match, 2 within rounding, 0 do not
        bee98bf120…67e1
        , cheaper, by 31.208 nats
        no"#]]).await;
}

#[tokio::test]
async fn a_provider_that_passes_and_how_to_look_again() {
    let path = path_of(3, None);
    check(
        busy(),
        &path,
        "standing",
        expect![[r#"
            Audits of
            attic
            watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v
            Reputation
            95.23 %
            Receipts audited
            10 %
            Passes since a failure
            22
            Waiting commitments
            1"#]],
    )
    .await;
    check(busy(), &path, "again", expect![[r#"
        Look at it again
        Nobody has to believe a verdict. Whoever holds the API key of a request runs the model over its answer on a machine of their own, and a provider can let a payer do so:
        peerwatt audit check REQUEST_ID
        Who runs an auditor sees what it found in a round; the round's own page has its whole name:
        peerwatt audit show ROUND
        Evidence is kept for 14 d. A model that is suspended is chosen again when its quality is 97 %, through rounds that pass; a delisted one after 30 d."#]]).await;
    check(
        busy(),
        &path,
        "open",
        expect![[r#"
        Open rounds
        Rounds that are open
        Round
        Model
        Receipts
        Share
        Verifiers
        Commit by
        Reveal by
        …/58
        ember
        96
        10 %
        validator
        watt1wx3hg…mxmj
        committed
        validator
        watt1jv6ma…2xzr
        nothing yet
        2026-11-21 04:06:00 UTC
        2026-11-21 04:16:00 UTC
        Commitments that wait for a beacon
        Commitments that wait
        Round
        Model
        Receipts
        Made
        Waits for
        …/61
        ember
        37
        2026-11-21 03:59:00 UTC
        a beacon after period 29 920 560"#]],
    )
    .await;
    // A mark for each level of each piece, three lines at which something follows.
    let html = page(busy(), &path).await;
    let model = section(&html, "model-0");
    assert_eq!(model.matches("<circle").count() + model.matches("<rect").count(), 12);
    assert_eq!(model.matches("class=\"threshold").count(), 3);
    // What is too much for the picture is an arrow; that nothing follows any more is hollow.
    let html = page(enforced(), &path_of(5, None)).await;
    let model = section(&html, "model-0");
    assert_eq!(model.matches("<polygon").count(), 1);
    assert_eq!(model.matches(" idle\"").count(), 8);
}

#[tokio::test]
async fn a_stranger_was_never_audited() {
    let path = path_of(9, None);
    check(
        busy(),
        &path,
        "standing",
        expect![[r#"
            Audits of
            watt1ddykm…v64g
            watt1ddykmlcvlyalh4aefnplnh4ek7zhy2ty5xv64g
            Reputation
            50 %
            Receipts audited
            20 %
            Passes since a failure
            0
            Waiting commitments
            0
            It was never audited: a stranger has a reputation of one half."#]],
    )
    .await;
    check(
        busy(),
        &path,
        "evidence",
        expect![[r#"
        Evidence
        No verifier has said anything of a model of this provider, or it was too long ago."#]],
    )
    .await;
}

#[tokio::test]
async fn a_round_by_how_far_it_is() {
    check(
        busy(),
        &path_of(3, Some(51)),
        "round",
        expect![[r#"
        Round watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v/51
        Outcome
        pass
        Verifiers said
        validator
        watt1wx3hg…mxmj
        pass
        validator
        watt1jv6ma…2xzr
        pass
        Would be
        nothing
        Done
        nothing
        Closed
        2026-11-20 23:40:00 UTC
        Provider
        attic
        Model
        ember
        Receipts committed to
        412, root
        3619a1d05b…3495
        Share chosen
        10 %
        Beacon
        8a62e967fc…3887
        , made by 2 validators"#]],
    )
    .await;
    check(
        busy(),
        &path_of(3, Some(58)),
        "round",
        expect![[r#"
        Round watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v/58
        It is open: verifiers judge.
        Provider
        attic
        Model
        ember
        Receipts committed to
        96, root
        3619a1d05b…3495
        Share chosen
        10 %
        Beacon
        8a62e967fc…3887
        , made by 2 validators
        Opened
        2026-11-21 03:56:00 UTC
        Commit by
        2026-11-21 04:06:00 UTC
        Reveal by
        2026-11-21 04:16:00 UTC
        Verifiers
        validator
        watt1wx3hg…mxmj
        committed
        validator
        watt1jv6ma…2xzr
        nothing yet"#]],
    )
    .await;
    check(
        busy(),
        &path_of(3, Some(61)),
        "round",
        expect![[r#"
        Round watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v/61
        It waits for a beacon: the first one of a period after 29 920 560 opens it.
        Provider
        attic
        Model
        ember
        Receipts committed to
        37, root
        3619a1d05b…3495
        Made
        2026-11-21 03:59:00 UTC
        , block 1 284"#]],
    )
    .await;
    let mut old = busy();
    old.audits_of[0].closed.clear();
    check(
        old,
        &path_of(3, Some(51)),
        "round",
        expect![[r#"
        Round watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v/51
        It was closed so long ago that the ledger keeps the evidence alone.
        Provider
        attic"#]],
    )
    .await;
}

#[tokio::test]
async fn a_round_with_a_picture_shows_it_as_an_image() {
    let html = page(busy(), &path_of(3, Some(51))).await;
    let source = format!("src=\"/audits/{ATTIC}/51/picture.svg\"");
    assert!(section(&html, "picture").contains(&source), "{html}");
    let response = answer(busy(), policy(), get(&format!("/audits/{ATTIC}/51/picture.svg"))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "image/svg+xml");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let csp = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(csp.starts_with("default-src 'self'; script-src 'self'"), "{csp}");
    assert!(text(response).await.starts_with("<svg "));
    // Without one there are the facts alone.
    let html = page(busy(), &path_of(3, Some(46))).await;
    assert!(!html.contains("picture.svg") && html.contains("Round watt1"));
}

#[tokio::test]
async fn what_a_verifier_drew_is_shown_to_nobody_before_the_round_is_over() {
    for sequence in [58, 61] {
        let drew = || {
            let mut source = busy();
            source.pictures.push((round(3, sequence), picture()));
            source
        };
        assert!(!page(drew(), &path_of(3, Some(sequence))).await.contains("picture.svg"));
        let path = format!("/audits/{ATTIC}/{sequence}/picture.svg");
        let response = answer(drew(), policy(), get(&path)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
