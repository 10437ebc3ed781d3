//! See the target `to_gateway` in `edge/fuzz-targets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_targets::run("to_gateway", bytes));
