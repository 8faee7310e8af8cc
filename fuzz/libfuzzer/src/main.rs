//! libFuzzer around one target of `strait_fuzz`, which the environment variable `FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use strait_fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
    strait_fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is none of {:?}", strait_fuzz::names()))
});

fuzz_target!(|input: &[u8]| (TARGET.check)(input));
