//! Golden transcripts of the command line; `TRYCMD=overwrite cargo test` writes what it says now.

#[test]
fn transcripts() {
    let cases = trycmd::TestCases::new();
    cases.env("RUST_LOG", "off").case("tests/cmd/*.trycmd");
    // Where there are no trampolines, nothing can be stressed.
    if cfg!(not(all(target_arch = "x86_64", unix))) {
        cases.skip("tests/cmd/stress.trycmd");
    }
}
