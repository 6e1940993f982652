//! The command line; what it does is in the library.

fn main() -> std::process::ExitCode {
    struct_ops_sim::cli::main()
}
