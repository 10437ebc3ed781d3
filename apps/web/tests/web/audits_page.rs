//! What the page of audits shows; where its links lead, and where nothing is.

use axum::http::StatusCode;
use expect_test::expect;

use crate::{
    answer,
    fixture::{
        Fixture,
        audits::{enforced, round},
        busy, empty,
    },
    get, page,
    pages::{check, section, visible},
    policy, text,
};

pub(crate) const ATTIC: &str = "watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v";

/// The page of a round, or of all rounds of a provider.
pub(crate) fn path_of(provider: u8, sequence: Option<u64>) -> String {
    let id = round(provider, sequence.unwrap_or(0));
    match sequence {
        Some(_) => format!("/audits/{id}"),
        None => format!("/audits/{}", id.provider),
    }
}

#[tokio::test]
async fn audits_in_the_shadow() {
    check(busy(), "/audits", "about", expect![[r#"
        Audits
        A provider commits to the receipts of what it served; randomness that validators make together chooses some of them, and validators run the model over those answers to see whether it made them.
        In the shadow.
        Everything is audited, judged and shown, and nobody loses anything.
        Receipts audited
        20 % of a newcomer's, 1 % at least
        Verifiers of a round
        2
        Time for verdicts
        10 min to commit, 10 min to reveal
        Delisted for
        30 d
        Newest beacon
        made by 2 validators, in period 29 920 559"#]]).await;
    check(
        busy(),
        "/audits",
        "excluded",
        expect![[r#"
        Excluded now
        Nobody is: gateways choose every provider for each of its models."#]],
    )
    .await;
    check(
        busy(),
        "/audits",
        "open",
        expect![[r#"
        Open rounds
        Rounds that are open
        Provider
        Round
        Model
        Receipts
        Share
        Verifiers
        Commit by
        Reveal by
        attic
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
        2026-11-21 04:16:00 UTC"#]],
    )
    .await;
    check(
        busy(),
        "/audits",
        "closed",
        expect![[r#"
        Closed rounds
        Latest first.
        Would be
        is what the evidence kept of provider and model justifies;
        done
        is what followed.
        Rounds that were closed last, latest first
        Closed
        Provider
        Round
        Model
        Receipts · share
        Outcome
        Verifiers said
        Would be
        Done
        2026-11-21 02:10:00 UTC
        attic
        …/56
        ember
        412 · 10 %
        pass
        validator
        watt1wx3hg…mxmj
        pass
        validator
        watt1jv6ma…2xzr
        revealed nothing
        nothing
        nothing
        2026-11-20 23:40:00 UTC
        attic
        …/51
        ember
        412 · 10 %
        pass
        validator
        watt1wx3hg…mxmj
        pass
        validator
        watt1jv6ma…2xzr
        pass
        nothing
        nothing
        2026-11-20 21:10:00 UTC
        attic
        …/46
        ember
        412 · 10 %
        inconclusive
        validator
        watt1wx3hg…mxmj
        inconclusive
        validator
        watt1jv6ma…2xzr
        abstained
        nothing
        nothing
        2026-11-20 18:40:00 UTC
        attic
        …/41
        ember
        412 · 10 %
        pass
        validator
        watt1wx3hg…mxmj
        pass
        validator
        watt1jv6ma…2xzr
        pass
        nothing
        nothing"#]],
    )
    .await;
}

#[tokio::test]
async fn audits_that_are_enforced() {
    let html = page(enforced(), "/audits").await;
    let shown = visible(section(&html, "about"));
    let mode: Vec<&str> = shown.lines().skip(2).take(3).collect();
    expect!["Enforced for llama3.1:8b-instruct-q4_K_M"].assert_eq(&mode.join(" "));
    check(
        enforced(),
        "/audits",
        "excluded",
        expect![[r#"
            Excluded now
            Providers and models that gateways do not choose
            Provider
            Model
            Why, and until when
            basement
            llama3.1:8b-instruct-q4_K_M
            delisted
            ends
            2026-12-21 02:45:00 UTC
            suspended
            until its quality is 97 % again
            watt1gt3tu…0axc
            ember
            suspended
            until its quality is 97 % again
            Gateways do not choose these providers for these models."#]],
    )
    .await;
    check(
        enforced(),
        "/audits",
        "open",
        expect![[r#"
            Open rounds
            Rounds that are open
            Provider
            Round
            Model
            Receipts
            Share
            Verifiers
            Commit by
            Reveal by
            attic
            …/58
            ember
            96
            10 %
            north
            pass
            south
            committed
            2026-11-21 04:06:00 UTC
            2026-11-21 04:16:00 UTC"#]],
    )
    .await;
    let html = page(enforced(), "/audits").await;
    let shown = visible(section(&html, "closed"));
    let first: Vec<&str> = shown.lines().take(60).collect();
    expect![[r#"
        Closed rounds
        Latest first.
        Would be
        is what the evidence kept of provider and model justifies;
        done
        is what followed.
        Rounds that were closed last, latest first
        Closed
        Provider
        Round
        Model
        Receipts · share
        Outcome
        Verifiers said
        Would be
        Done
        2026-11-21 02:45:00 UTC
        basement
        …/19
        llama3.1:8b-instruct-q4_K_M
        412 · 10 %
        fail
        north
        fail
        south
        fail
        slash
        slash
        2026-11-21 00:50:00 UTC
        basement
        …/16
        llama3.1:8b-instruct-q4_K_M
        412 · 10 %
        fail
        north
        fail
        south
        revealed nothing
        refund, delist
        escalate
        2026-11-20 21:00:00 UTC
        basement
        …/12
        llama3.1:8b-instruct-q4_K_M
        412 · 10 %
        missing
        north
        missing
        south
        missing
        nothing
        nothing
        2026-11-21 02:10:00 UTC
        attic
        …/56
        ember
        412 · 10 %
        pass
        north
        pass"#]]
    .assert_eq(&first.join("\n"));
}

#[tokio::test]
async fn without_rounds_it_says_why() {
    check(empty(), "/audits", "open", expect![[r#"
        Open rounds
        None: there was no beacon yet.
        A beacon is made when validators reveal their votes on the price, and the first one after a commitment opens its round."#]]).await;
    let mut waits = empty();
    waits.audits.beacon.reveals = 2;
    check(waits, "/audits", "open", expect![[r#"
        Open rounds
        There was no round yet.
        A provider that has served something commits to its receipts, and the next beacon opens the round: nobody has, or what was committed to waits for it."#]]).await;
    let mut off = empty();
    off.ledger.as_mut().unwrap().status.params.audits.mode = types::params::AuditMode::Off;
    check(
        off,
        "/audits",
        "open",
        expect![[r#"
        Open rounds
        None: this network audits nothing."#]],
    )
    .await;
    check(
        empty(),
        "/audits",
        "closed",
        expect![[r#"
        Closed rounds
        None yet.
        A round is closed when its verifiers have revealed what they found, or did not in time."#]],
    )
    .await;
}

#[tokio::test]
async fn without_a_ledger_it_says_so() {
    for (path, ids) in [
        ("/audits".to_owned(), &["about", "excluded", "open", "closed"][..]),
        (path_of(3, None), &["standing"]),
        (path_of(3, Some(51)), &["standing"]),
    ] {
        let html = page(Fixture { ledger: None, ..busy() }, &path).await;
        for id in ids {
            let shown = visible(section(&html, id));
            assert!(
                shown.contains("the ledger was not read: the chain API"),
                "{path} {id}: {shown}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for path in [
        "/audits/x%3Cscript%3E",
        &format!("/audits/{ATTIC}/52"),
        &format!("/audits/{ATTIC}/x"),
        &format!("/audits/{ATTIC}/-1"),
        "/audits/watt1nobody/51",
        &format!("/audits/{ATTIC}/46/picture.svg"),
        &format!("/audits/{ATTIC}/..%2F51/picture.svg"),
        &format!("/audits/..%2F{ATTIC}/51/picture.svg"),
    ] {
        let response = answer(busy(), policy(), get(path)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let html = text(response).await;
        assert!(html.contains("To the overview") && !html.contains("<script>"), "{path}");
    }
}

#[tokio::test]
async fn every_link_between_the_pages_of_audits_leads_somewhere() {
    let mut queue = vec!["/".to_owned(), "/models".to_owned(), "/audits".to_owned()];
    let mut seen = 0;
    while let Some(path) = queue.get(seen).cloned() {
        seen += 1;
        let html = page(enforced(), &path).await;
        for part in ["href=\"", "src=\""] {
            for link in html.split(part).skip(1).filter_map(|rest| rest.split('"').next()) {
                let picture = link.ends_with(".svg");
                if link.starts_with("/audits") && !picture && !queue.iter().any(|it| it == link) {
                    queue.push(link.to_owned());
                }
            }
        }
    }
    // The list, two providers and one that is only excluded, and their nine rounds at least.
    assert!(seen >= 14, "{queue:?}");
}

#[tokio::test]
async fn the_overview_has_a_line_once_a_round_was_closed() {
    let line = async |source| {
        let html = page(source, "/").await;
        let shown = visible(section(&html, "providers"));
        shown.lines().skip_while(|it| *it != "Audits").collect::<Vec<_>>().join(" ")
    };
    expect!["Audits : 3 of the last 4 rounds passed, the latest one 2026-11-21 02:10:00 UTC : pass In the shadow: nobody loses anything."].assert_eq(&line(busy()).await);
    expect![
        "Audits : 3 of the last 7 rounds passed, the latest one 2026-11-21 02:45:00 UTC : fail"
    ]
    .assert_eq(&line(enforced()).await);
    assert_eq!(line(empty()).await, "");
}

#[tokio::test]
async fn what_others_are_called_is_text_on_the_pages_of_audits() {
    const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'";
    for path in ["/audits".to_owned(), path_of(3, None), path_of(5, None), path_of(3, Some(51))] {
        let mut source = enforced();
        source.providers.iter_mut().for_each(|it| it.moniker = EVIL.to_owned());
        source.models.iter_mut().for_each(|it| it.alias = EVIL.to_owned());
        let validators = &mut source.ledger.as_mut().unwrap().validators;
        validators.iter_mut().for_each(|it| it.moniker = EVIL.to_owned());
        let html = page(source, &path).await;
        assert!(html.contains("&lt;script&gt;"), "{path}");
        assert!(!html.contains("<script>") && !html.contains("<img src=x"), "{path}");
    }
}
