#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anyvocab_fuzz::check_rwkv(data));
