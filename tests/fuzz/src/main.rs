//! The fuzzer's program: libFuzzer's own `main`, our bodies. Which one runs says `POLYPHASE_FUZZ_TARGET`.
#![no_main]

use polyphase_fuzz::harness;

// the one macro whose expansion is not safe code: it is libFuzzer's C interface
libfuzzer_sys::fuzz_target!(init: harness::init(), |data: &[u8]| harness::run(data));
