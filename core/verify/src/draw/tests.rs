//! Generators and samplers against vectors that other programs made.

use proptest::prelude::*;

use super::*;

/// Words and uniforms as NumPy has them: `MT19937()._legacy_seeding(seed)`, `random_raw()`.
#[test]
fn mersenne_draws_as_numpy_does() {
    for (seed, expected) in [
        (1_000, [0.205_521_723_174_860_14, 0.610_382_959_273_412_6, 0.010_258_279_496_404_08]),
        (1_001, [0.379_528_733_274_487_83, 0.551_418_371_094_638_4, 0.227_684_073_894_298_65]),
        (1_002, [0.042_804_345_751_411_35, 0.107_536_475_747_161_59, 0.153_790_274_731_850_7]),
        (1_003, [0.004_862_628_317_858_513, 0.699_212_703_955_344_3, 0.251_504_201_911_592_4]),
    ] {
        let mut generator = Mersenne::new(seed);
        assert_eq!([0; 3].map(|_| generator.uniform()), expected, "{seed}");
    }
    // Past the first turn of 624 words, and past a second.
    for (seed, expected) in [
        (1_000, [0.551_790_501_862_369, 0.072_762_702_123_353_56, 0.956_508_451_367_565]),
        (1_001, [0.287_468_092_567_345_7, 0.858_962_425_873_255_8, 0.933_699_372_962_829]),
        (1_002, [0.272_989_107_368_207_6, 0.905_244_889_131_404, 0.589_124_363_012_683_1]),
        (1_003, [0.063_218_268_266_375_56, 0.433_924_664_938_294_57, 0.091_455_773_069_509_08]),
    ] {
        let mut generator = Mersenne::new(seed);
        let all: Vec<f64> = (0..1_000).map(|_| generator.uniform()).collect();
        assert_eq!([all[311], all[312], all[999]], expected, "{seed}");
    }
}

/// The first words of Go's own test of `NewPCG(1, 2)`.
#[test]
fn pcg_draws_as_go_does() {
    let mut generator = Pcg::new(1, 2);
    let expected = [
        0xc4f5_a586_56ee_f510,
        0x9dce_c3ad_077d_ec6c,
        0xc8d0_4605_312f_8088,
        0xcbed_c0dc_b63a_c19a,
        0x3bf9_8798_cae9_7950,
        0x0a8c_6d7f_8d48_5abc,
        0x7ffa_3780_429c_d279,
        0x730a_d262_6b1c_2f8e,
    ];
    assert_eq!([0; 8].map(|_| generator.word()), expected);
}

/// By a second implementation, in Python.
#[test]
fn ollama_seeds_and_cuts_words_to_24_bits() {
    for (seed, expected) in [
        (1_000, [14_884_481, 5_948_986, 4_679_850, 12_738_150, 7_303_555]),
        (1_001, [9_545_930, 2_271_897, 16_417_452, 12_981_484, 10_741_835]),
        (u32::MAX - 1, [9_401_221, 9_856_341, 15_466_366, 11_280_584, 8_650_898]),
    ] {
        let mut generator = Pcg::of_ollama(seed);
        let bits = [0; 5].map(|_| (generator.uniform24() * 16_777_216.0) as u32);
        assert_eq!(bits, expected, "{seed}");
    }
}

/// Words by a second implementation, in Python; that one gives the published outputs of SplitMix64.
#[test]
fn noise_is_this() {
    for ((seed, position, id), word, noise) in [
        ((0, 0, 0), 0xe220_a839_7b1d_cdaf, 2.086_843_676_967_438_6),
        ((1_000, 0, 0), 0xf0c6_c120_1fff_6828, 2.791_831_768_638_007_6),
        ((1_000, 0, 1), 0xbc04_8386_5055_8427, 1.175_574_224_048_487_7),
        ((1_000, 1, 0), 0xb0c3_1e7e_9757_b648, 0.993_246_810_821_987_3),
        ((1_000, 7, 432), 0x29af_4707_3a96_d389, -0.596_109_615_042_810_3),
        ((u32::MAX - 1, 131_071, 0xff_ffff), 0xbabe_7fc7_c23f_d5f8, 1.153_793_084_094_539_8),
    ] {
        assert_eq!(gumbel::word(seed, position, id), word);
        assert!(
            (gumbel::noise(seed, position, id) - noise).abs() < 1e-14,
            "{seed} {position} {id}"
        );
    }
}

const PLAIN: Settings = Settings { temperature: 1.0, top_k: 20, top_p: 1.0 };

/// Probabilities ½, ¼, ⅛ … in nats.
fn halves(count: u32) -> Candidates {
    let micros = |n: u32| (-std::f64::consts::LN_2 * f64::from(n) * 1e6) as i32;
    Candidates::reported((0..count).map(|n| (n + 10, micros(n))))
}

fn ids(draws: impl Iterator<Item = Draw>) -> Vec<u32> {
    draws.map(|draw| draw.id().unwrap()).collect()
}

#[test]
fn the_first_whose_sum_reaches_u_is_drawn() {
    let stream = Stream::new(Sampler::Ollama, PLAIN, 0);
    // Of 1 + ½ + ¼: the first up to 4⁄7, the second up to 6⁄7.
    let at = [0.0, 0.571, 0.572, 0.857, 0.858, 0.999_999_9];
    let expected = [10, 10, 11, 11, 12, 12];
    let draw = |u: f64| stream.draw_with(Chance::Uniform(u), &halves(3));
    assert_eq!(ids(at.iter().map(|u| draw(*u))), expected);
    let draw = |u: f64| stream.draw_with(Chance::Uniform24(u as f32), &halves(3));
    assert_eq!(ids(at.iter().map(|u| draw(*u))), expected);
    let Some(Miss::Share(far)) = draw(0.2).miss(11) else { panic!("11 may be drawn") };
    assert!((far - (4.0 / 7.0 - 0.2)).abs() < 1e-6, "{far}");
    let Some(Miss::Share(far)) = draw(0.9).miss(10) else { panic!("10 may be drawn") };
    assert!((far - (0.9 - 4.0 / 7.0)).abs() < 1e-6, "{far}");
    assert_eq!(draw(0.2).miss(10), Some(Miss::No));
    assert_eq!(draw(0.2).miss(9), Some(Miss::FilteredOut));
}

/// Probabilities .5714, .2857, .1429 at temperature 1; at temperature 2 .4531, .3204, .2265.
#[test]
fn engines_cut_on_different_probabilities() {
    let settings = Settings { temperature: 2.0, top_k: 3, top_p: 0.84 };
    let stream = Stream::new(Sampler::Ollama, settings, 0);
    assert_eq!(llama::kept(&halves(9), &settings).as_slice().len(), 2);
    let last = |chance| stream.draw_with(chance, &halves(9)).id();
    assert_eq!(last(Chance::Uniform(0.999)), Some(11));
    assert_eq!(last(Chance::Uniform24(0.999)), Some(12));
}

#[test]
fn one_candidate_draws_or_does_not() {
    let steps = [1, 3, 1, 1, 3, 3].map(halves);
    let settings = Settings { top_p: 0.99, ..PLAIN };
    let chances = |sampler| {
        let mut stream = Stream::new(sampler, settings, 1_000);
        steps.map(|candidates| stream.chance(&candidates))
    };
    let mut generator = Mersenne::new(1_000);
    let u = [0; 6].map(|_| Chance::Uniform(generator.uniform()));
    assert_eq!(chances(Sampler::Llama(OneCandidate::Draws)), u);
    let skipping = chances(Sampler::Llama(OneCandidate::Skips));
    assert_eq!(skipping, [Chance::None, u[0], Chance::None, Chance::None, u[1], u[2]]);
    // One saw a single candidate and did not draw, the other sees several and cannot know.
    let stream = Stream::new(Sampler::Llama(OneCandidate::Skips), settings, 0);
    assert_eq!(stream.draw_with(Chance::None, &halves(3)), Draw::Nothing);
}

#[test]
fn temperature_zero_takes_the_likeliest() {
    let settings = Settings { temperature: 0.0, ..PLAIN };
    for sampler in SAMPLERS {
        let mut stream = Stream::new(sampler, settings, 5);
        assert_eq!(ids((0..9).map(|_| stream.draw(&halves(5)))), [10; 9], "{sampler:?}");
        assert_eq!(stream.draw(&halves(5)).miss(11), Some(Miss::FilteredOut));
    }
}

const SAMPLERS: [Sampler; 4] = [
    Sampler::Llama(OneCandidate::Draws),
    Sampler::Llama(OneCandidate::Skips),
    Sampler::Ollama,
    Sampler::Gumbel,
];

#[test]
fn every_sampler_draws_with_the_probabilities() {
    for sampler in SAMPLERS {
        let mut counts = [0u32; 3];
        let mut stream = Stream::new(sampler, PLAIN, 42);
        for _ in 0..70_000 {
            counts[stream.draw(&halves(3)).id().unwrap() as usize - 10] += 1;
        }
        for (count, expected) in counts.into_iter().zip([40_000u32, 20_000, 10_000]) {
            assert!(count.abs_diff(expected) < 600, "{sampler:?} {counts:?}");
        }
    }
}

#[test]
fn the_margin_is_what_was_lacking() {
    let mut stream = Stream::new(Sampler::Gumbel, PLAIN, 1_000);
    let candidates = Candidates::reported([(0, 0), (1, -100_000)]);
    let draw = stream.draw(&candidates);
    let expected = gumbel::noise(1_000, 0, 0) - gumbel::noise(1_000, 0, 1) + 0.1;
    let Some(Miss::Nats(margin)) = draw.miss(1) else { panic!("{draw:?}") };
    assert!((margin - expected).abs() < 1e-6);
    assert_eq!(draw.miss(2), Some(Miss::FilteredOut));
}

proptest! {
    /// No number makes a draw panic, and what is drawn is one of the candidates.
    #[test]
    fn whatever_is_drawn_is_a_candidate(
        reported in prop::collection::vec((0u32..50, any::<i32>()), 0..30),
        temperature in prop_oneof![Just(f32::NAN), Just(f32::INFINITY), any::<f32>(), 0.0f32..2.0],
        top_p in prop_oneof![Just(f32::NAN), any::<f32>(), 0.0f32..1.0],
        top_k in 0usize..30,
        seed in any::<u32>(),
        asked in 0u32..50,
    ) {
        let candidates = Candidates::reported(reported);
        for sampler in SAMPLERS {
            let mut stream = Stream::new(sampler, Settings { temperature, top_k, top_p }, seed);
            let draw = stream.draw(&candidates);
            if let Some(id) = draw.id() {
                prop_assert!(candidates.as_slice().iter().any(|candidate| candidate.id == id));
                prop_assert_eq!(draw.miss(id), Some(Miss::No));
            }
            match draw.miss(asked) {
                Some(Miss::Share(far)) => prop_assert!((0.0..=1.0).contains(&far)),
                Some(Miss::Nats(far)) => prop_assert!(far >= 0.0),
                Some(Miss::No | Miss::FilteredOut) | None => {}
            }
        }
    }
}
