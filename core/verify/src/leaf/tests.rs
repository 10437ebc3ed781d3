//! Leaves round-trip, refuse what is not canonical, and keep log-probabilities well enough.

use expect_test::expect;
use proptest::prelude::*;
use types::hash::to_hex;

use super::*;

#[test]
fn a_leaf_is_these_bytes() {
    let token = LeafToken::new(432, &[(383, -3_605_042), (432, -29_968)]).unwrap();
    let bytes = encode(&[token]).unwrap();
    // One token; 432; two candidates: 432 at 300 steps, 383 at 2¹⁴ + 9 833 steps.
    expect!["01b0010002b001002c017f01006966"].assert_eq(&to_hex(&bytes));
    let projection = Projection([1, -1, 2, -2, 3, -3, i16::MAX, i16::MIN]);
    let token = LeafToken::new(432, &[(432, -29_968)]).unwrap().projected(Some(projection));
    // The highest bit of the count, and eight sums before the candidate.
    expect!["01b00100810100ffff0200feff0300fdffff7f0080b001002c01"]
        .assert_eq(&to_hex(&encode(&[token]).unwrap()));
}

#[test]
fn log_probabilities_meet_where_the_step_changes() {
    for (micros, code) in [
        (0, 0),
        (77, 1),
        (i32::MAX, 0),
        (-49, 0),
        (-50, 1),
        (-1_638_349, 16_383),
        (-1_638_399, 16_384),
        (-1_638_400, 16_384),
        (-4_915_200, 32_768),
        (-21_299_200, 49_152),
        (-152_363_200, 65_535),
        (i32::MIN, 65_535),
    ] {
        let expected = if micros > 0 { 0 } else { code };
        assert_eq!(Logprob::of_micros(micros), Logprob(expected), "{micros}");
    }
    let all = || (0..=u16::MAX).map(Logprob);
    assert!(all().is_sorted_by(|left, right| left.micros() > right.micros()));
    assert!(all().all(|code| Logprob::of_micros(code.micros()) == code));
}

#[test]
fn a_leaf_that_is_none_is_refused() {
    let token = LeafToken::new(1, &[]).unwrap();
    assert_eq!(encode(&[]), Err(LeafError::Tokens { count: 0 }));
    assert_eq!(encode(&vec![token.clone(); 33]), Err(LeafError::Tokens { count: 33 }));
    assert_eq!(LeafToken::new(ID_END, &[]), Err(LeafError::Id { id: ID_END }));
    assert_eq!(LeafToken::new(0, &[(ID_END, 0)]), Err(LeafError::Id { id: ID_END }));
    assert_eq!(LeafToken::new(0, &[(0, 0); 21]), Err(LeafError::Candidates { count: 21 }));
    let whole = encode(&vec![token; 32]).unwrap();
    for (bytes, error) in [
        (vec![], LeafError::Short),
        (vec![0], LeafError::Tokens { count: 0 }),
        (vec![33], LeafError::Tokens { count: 33 }),
        (whole[..whole.len() - 1].to_vec(), LeafError::Short),
        ([&whole[..], &[0]].concat(), LeafError::Long { count: 1 }),
        (vec![1, 0, 0, 0, 21], LeafError::Candidates { count: 21 }),
        (vec![1, 0, 0, 0, 0x95], LeafError::Candidates { count: 21 }),
        (vec![1, 0, 0, 0, 0x80, 1, 2], LeafError::Short),
        (vec![1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0], LeafError::Unsorted),
    ] {
        assert_eq!(decode(&bytes), Err(error), "{bytes:?}");
    }
}

fn any_token() -> impl Strategy<Value = LeafToken> {
    let pair = (0..ID_END, -200_000_000..=1_000);
    let projection = prop::option::of(any::<[i16; PROJECTION_SUMS]>().prop_map(Projection));
    (0..ID_END, prop::collection::vec(pair, 0..=CANDIDATES_MAX), projection).prop_map(
        |(id, reported, projection)| LeafToken::new(id, &reported).unwrap().projected(projection),
    )
}

proptest! {
    #[test]
    fn leaves_round_trip(tokens in prop::collection::vec(any_token(), 1..=LEAF_TOKENS_MAX)) {
        let bytes = encode(&tokens).unwrap();
        prop_assert!(bytes.len() <= LEAF_BYTES_MAX);
        prop_assert_eq!(decode(&bytes).unwrap(), tokens);
    }

    #[test]
    fn whatever_decodes_is_canonical(
        mut bytes in prop::collection::vec(0u8..4, 0..300),
        noise in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        bytes.extend(noise);
        if let Ok(tokens) = decode(&bytes) {
            prop_assert_eq!(encode(&tokens).unwrap(), bytes);
        }
    }

    #[test]
    fn a_coded_probability_is_near(micros in -152_000_000..=0) {
        let (given, coded) = (f64::from(micros) / 1e6, f64::from(Logprob::of_micros(micros).micros()) / 1e6);
        prop_assert!((given.exp() - coded.exp()).abs() <= 5.1e-5);
        prop_assert!((given - coded).abs() <= 0.004_001);
    }
}
