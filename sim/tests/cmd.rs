//! Golden transcripts of the command line; `TRYCMD=overwrite cargo test` writes what it says now.

#[test]
fn transcripts() {
    let cases = trycmd::TestCases::new();
    cases.env("RUST_LOG", "off");
    // Whatever the terminal of whoever runs the tests.
    cases.env("COLUMNS", "80").env("NO_COLOR", "1");
    // Printed commands begin with what started the program.
    cases
        .insert_var("[SIM]", env!("CARGO_BIN_EXE_struct-ops-sim"))
        .expect("a name for the program");
    cases.case("tests/cmd/*.trycmd");
    // Where there are no trampolines, nothing can be stressed.
    if cfg!(not(all(target_arch = "x86_64", unix))) {
        cases.skip("tests/cmd/stress.trycmd");
    }
}
