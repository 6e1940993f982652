//! Golden transcripts of the command line; `TRYCMD=overwrite cargo test` writes what it says now.

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("RUST_LOG", "off")
        .case("tests/cmd/*.trycmd");
}
