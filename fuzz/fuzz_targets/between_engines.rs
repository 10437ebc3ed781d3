//! See the target `between_engines` in `edge/fuzz-targets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_targets::run("between_engines", bytes));
