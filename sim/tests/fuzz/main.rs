//! No input makes a reader panic, and whatever it says fits on a screen, is text, and speaks of the input and not of
//! the Rust that reads it.
//!
//! Each test takes the files of its corpus as they are, and then inputs that are almost right. A million inputs of each:
//! `BOLERO_RANDOM_ITERATIONS=1000000 cargo test --release -p struct-ops-sim --test fuzz`. Every test is a target of
//! `cargo bolero test`, too, which is guided by what an input reaches.

mod mutate;

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use bolero::TypeGenerator;
use mutate::{Corpus, Mutant};
use struct_ops_model::reach::{Kind, Reach};
use struct_ops_model::{Design, Invariant, Machine};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::btf::{Btf, OpsType};
use struct_ops_sim::check::Settings;
use struct_ops_sim::cost::{self, Kernel, kernels};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::scenario::{Case, InputError, ReachScenario, Scenario, Words, emit};
use struct_ops_sim::schedule::{self, Chooser};
use struct_ops_sim::walk::{self, Walked as _};
use struct_ops_sim::{check, cli, history, input, merge, reach, report, shipped, tracefile};

/// Inputs of one reader in an ordinary run of the tests.
const INPUTS: usize = 1500;
/// States of one exploration.
const STATES: u64 = 200;

/// What a user cannot be expected to know.
const OURS: [&str; 16] = [
    "expected struct ",
    "enum",
    " variant",
    "untagged",
    "newtype",
    "tuple",
    "i64",
    "u64",
    "u32",
    "u16",
    "u8",
    "usize",
    "f64",
    "non-zero",
    "invalid digit",
    "Utf8Error",
];

/// What is said fits on a screen, can be shown, and has no words of ours that the input does not have.
fn said(input: &[u8], text: &str) {
    assert!(text.len() < 6_000, "{} bytes: {text}", text.len());
    assert!(text.lines().count() <= 24, "{text}");
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!text.chars().any(obeyed), "{text:?}");
    let input = String::from_utf8_lossy(input);
    let ours = OURS
        .iter()
        .find(|w| text.contains(**w) && !input.contains(**w));
    assert_eq!(ours, None, "{text}");
}

/// The same choice for the same input.
fn choice(input: &[u8], of: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    hasher.finish() as usize % of
}

fn settings() -> Settings {
    Settings {
        threads: 1,
        max_states: Some(STATES),
        exact: false,
        reductions: Reductions::ALL,
    }
}

// ---- scenarios ------------------------------------------------------------------------------------------------

static SCENARIOS: LazyLock<Corpus> = LazyLock::new(|| {
    let odd: [&[u8]; 26] = [
        b"as",
        b"-",
        b"-1",
        b"255",
        b"9223372036854775807",
        b"18446744073709551616",
        b"0x",
        b"1.5",
        b"1e999",
        b"nan",
        b"true",
        b"1979-05-27",
        b"[]",
        b"{}",
        b"[[",
        b"''",
        b"'''",
        b"\"\"\"",
        b"\\u001b",
        b"\x1b[2J",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xe2\x80\xae",
        b"\r\n",
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\xe4\xb8\xad\xcc\x81",
    ];
    let folders = ["scenarios", "tests/scenarios", "tests/fuzz/corpus/scenario"];
    Corpus::read(&folders, "toml", mutate::text, &odd)
});

/// Reads a scenario; one that is right is written and read again, and explored a little.
fn read_scenario(bytes: &[u8]) {
    let read = || {
        let text = input::decode("fuzz.toml", bytes.to_vec())?;
        match Case::parse("fuzz", "fuzz.toml", &text)? {
            Case::Attach(scenario) => attach(bytes, &scenario),
            Case::Reach(scenario) => lookups(bytes, &scenario),
        }
    };
    if let Err(error) = read() {
        said(bytes, &error.to_string());
    }
}

fn attach(bytes: &[u8], scenario: &Scenario) -> Result<(), InputError> {
    let words = Words {
        title: &scenario.head.title,
        question: &scenario.head.question,
        source: &scenario.head.source,
    };
    let text = emit(words, &scenario.world);
    let again =
        Scenario::parse("again", "again.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.world, scenario.world, "{text}");

    let designs = Design::attach_paths();
    let design = &designs[choice(bytes, designs.len())];
    if let Ok(machine) = Machine::new(scenario.world.clone(), design.clone()) {
        let actions = schedule::run(&machine, &mut Chooser::new(Some(1)));
        walk::trace(&machine, &actions).expect("every action is enabled");
        check::check(scenario, design, &settings(), &UNBOUNDED, &mut |_| ())
            .expect("no bug of ours");
    }
    Ok(())
}

fn lookups(bytes: &[u8], scenario: &ReachScenario) -> Result<(), InputError> {
    let designs = Design::presets();
    let design = &designs[choice(bytes, designs.len())];
    let run = reach::check(scenario, design, &settings(), &UNBOUNDED, &mut |_| ());
    let machine = Reach::new(scenario.world(design), design.clone());
    for found in run.expect("no bug of ours").found {
        machine
            .carry_out(&found.actions)
            .expect("every action is enabled");
    }
    Ok(())
}

#[test]
fn scenarios() {
    for (path, bytes) in &SCENARIOS.files {
        println!("{}", path.display());
        read_scenario(bytes);
    }
    bolero::check!()
        .with_iterations(INPUTS)
        .with_type::<Mutant>()
        .for_each(|mutant| read_scenario(&SCENARIOS.input(mutant)));
}

// ---- traces ---------------------------------------------------------------------------------------------------

static TRACES: LazyLock<Corpus> = LazyLock::new(|| {
    let odd: [&[u8]; 14] = [
        b"null",
        b"-1",
        b"255",
        b"4294967296",
        b"1e999",
        b"true",
        b"[]",
        b"{}",
        b"\\u001b",
        b"\\ud800",
        b"\x1b[2J",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xe2\x80\xae",
    ];
    Corpus::read(&["tests/fuzz/corpus/trace"], "json", mutate::text, &odd)
});

/// Reads a trace and carries it out.
fn read_trace(bytes: &[u8]) {
    let read = || {
        let text = input::decode("fuzz.json", bytes.to_vec())?;
        let file = tracefile::File::parse("fuzz.json", &text)?;
        let designs = Design::presets();
        let other = designs.get(choice(bytes, 2 * designs.len()));
        file.replay("fuzz.json", other).map(drop)
    };
    if let Err(error) = read() {
        said(bytes, &error.to_string());
    }
}

#[test]
fn traces() {
    for (path, bytes) in &TRACES.files {
        println!("{}", path.display());
        read_trace(bytes);
    }
    bolero::check!()
        .with_iterations(INPUTS)
        .with_type::<Mutant>()
        .for_each(|mutant| read_trace(&TRACES.input(mutant)));
}

// ---- histories ------------------------------------------------------------------------------------------------

static HISTORIES: LazyLock<Corpus> = LazyLock::new(|| {
    let odd: [&[u8]; 12] = [
        b"null",
        b"-1",
        b"255",
        b"4294967296",
        b"18446744073709551616",
        b"true",
        b"\"begins\"",
        b"\"returns\"",
        b"[]",
        b"\\u001b",
        b"\xff",
        b"\xe2\x80\xae",
    ];
    let folders = ["tests/histories", "tests/fuzz/corpus/history"];
    Corpus::read(&folders, "json", mutate::text, &odd)
});

/// Reads a history, looks for a run that explains it, and prints what comes of that.
fn read_history(bytes: &[u8]) {
    let read = || {
        let text = input::decode("fuzz.json", bytes.to_vec())?;
        let file = history::file::File::parse("fuzz.json", &text)?;
        let (scenario, design, seen) = file.history("fuzz.json")?;
        let again = history::file::File::new(&scenario, &design, &seen);
        assert_eq!(again.history("fuzz.json")?.2, seen);
        let small = scenario.world.cpus.len() <= 2 && seen.calls.len() <= 6;
        if let Some(told) = small
            .then(|| history::side::Told::new(&scenario, &design, &seen).ok())
            .flatten()
        {
            report::history::text(&Screen::plain(Screen::USUAL), &told);
        }
        Ok(())
    };
    if let Err(error) = read() {
        let error: InputError = error;
        said(bytes, &error.to_string());
    }
}

#[test]
fn histories() {
    for (path, bytes) in &HISTORIES.files {
        println!("{}", path.display());
        read_history(bytes);
    }
    bolero::check!()
        .with_iterations(INPUTS)
        .with_type::<Mutant>()
        .for_each(|mutant| read_history(&HISTORIES.input(mutant)));
}

// ---- results --------------------------------------------------------------------------------------------------

static RESULTS: LazyLock<Corpus> = LazyLock::new(|| {
    let odd: [&[u8]; 10] = [
        b"1/0",
        b"-1",
        b"1e999",
        b"18446744073709551615",
        b"10000",
        b"null",
        b"holds",
        b"mainline",
        b"cpu7 step",
        b"\x1b[2J",
    ];
    Corpus::read(&["tests/fuzz/corpus/result"], "json", mutate::text, &odd)
});

/// Reads a result of `check`, joins it with nothing, and tells it in every way. In the corpus its version is open.
fn read_result(bytes: &[u8]) {
    let read = || {
        let text = input::decode("fuzz.json", bytes.to_vec())?;
        let text = text.replace("\"VERSION\"", &format!("\"{}\"", report::json::VERSION));
        let part = merge::Part::parse("fuzz.json", &text)?;
        let (asked, results) = merge::merge(&[part])?;
        report::summary::summary(
            &Screen::plain(80),
            &results,
            report::summary::Detail::default(),
        );
        let told = |_: &_, _: &_| Ok::<_, ()>(String::new());
        report::junit::junit(&results, asked.fail_on, told).expect("everything is told");
        report::json::check::End::new(&results);
        Ok(())
    };
    let read: Result<(), InputError> = read();
    if let Err(error) = read {
        said(bytes, &error.to_string());
    }
}

#[test]
fn results() {
    for (path, bytes) in &RESULTS.files {
        println!("{}", path.display());
        let whole = String::from_utf8_lossy(bytes);
        let whole = whole.replace("\"VERSION\"", &format!("\"{}\"", report::json::VERSION));
        let part = merge::Part::parse("whole.json", &whole);
        part.and_then(|p| merge::merge(&[p]))
            .unwrap_or_else(|e| panic!("{}: not one of today's: {e}", path.display()));
        read_result(bytes);
    }
    bolero::check!()
        .with_iterations(INPUTS)
        .with_type::<Mutant>()
        .for_each(|mutant| read_result(&RESULTS.input(mutant)));
}

// ---- BTF ------------------------------------------------------------------------------------------------------

static BTF: LazyLock<Corpus> = LazyLock::new(|| {
    let odd: [&[u8]; 10] = [
        &[0; 4],
        &[0xff; 4],
        &[0xff, 0xff, 0xff, 0x7f],
        &[0, 0, 0, 0x80],
        &[0xff, 0xff, 0, 4],
        &[0x9f, 0xeb, 1, 0],
        &[0xeb, 0x9f, 1, 0],
        b"\x1b[2J",
        b"\x7fELF",
        b"bpf_",
    ];
    Corpus::read(&["btf", "tests/btf"], "btf", mutate::words, &odd)
});

/// Reads BTF, by itself and on top of a kernel's, and works with what it has.
fn read_btf(bytes: &[u8]) {
    let kernel = Btf::parse(&BTF.files[1].1).expect("a kernel's");
    for btf in [Btf::parse(bytes), Btf::parse_split(bytes, kernel)] {
        let priced = btf
            .and_then(|btf| kernels::of_btf("fuzz", btf))
            .map(|kernel| price(&kernel));
        if let Err(error) = priced {
            said(
                bytes,
                &InputError::whole("fuzz.btf", error.to_string()).to_string(),
            );
        }
    }
}

/// What its types cost, and their code.
fn price(kernel: &Kernel) {
    let screen = Screen::plain(80);
    let shown = |text: String| {
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(!text.chars().any(obeyed), "{text:?}");
    };
    let designs = [Design::mainline(), Design::link_owned()];
    for name in kernel.btf.ops_types() {
        match cost::of_type(kernel, name, &designs, &[1, 1_000_000]) {
            Ok(cost) => shown(report::cost::text(&screen, &cost)),
            Err(error) => shown(
                InputError::whole("fuzz.btf", error.to_string())
                    .to_string()
                    .replace('\n', ""),
            ),
        }
        let (Ok(ops), Some(jit)) = (OpsType::read(&kernel.btf, name), kernel.generator.jit) else {
            continue;
        };
        for (member, model) in cost::members(&ops).into_iter().take(8) {
            if let Ok(code) = cost::trampoline(jit, model, u64::MAX) {
                let kernel = (kernel.name.as_str(), &kernel.generator);
                shown(report::cost::listing(
                    &screen,
                    kernel,
                    name,
                    member,
                    u64::MAX,
                    &code,
                ));
            }
        }
    }
}

#[test]
fn btf() {
    for (path, bytes) in &BTF.files {
        println!("{}", path.display());
        read_btf(bytes);
    }
    bolero::check!()
        .with_iterations(INPUTS / 3)
        .with_type::<Mutant>()
        .for_each(|mutant| read_btf(&BTF.input(mutant)));
}

// ---- arguments ------------------------------------------------------------------------------------------------

/// Every word of the grammar, every name that there is, and what is neither.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let grammar = cli::grammar();
    let mut words: BTreeSet<String> = BTreeSet::new();
    for command in [&grammar].into_iter().chain(grammar.get_subcommands()) {
        words.insert(command.get_name().into());
        for arg in command.get_arguments() {
            words.extend(arg.get_long().map(|l| format!("--{l}")));
            words.extend(arg.get_short().map(|s| format!("-{s}")));
            let values = arg.get_possible_values();
            words.extend(values.iter().map(|v| v.get_name().to_string()));
        }
    }
    words.extend(shipped::names().into_iter().map(String::from));
    words.extend(Design::presets().into_iter().map(|d| d.name));
    words.extend(Invariant::ALL.iter().map(|i| i.id().into()));
    words.extend(Kind::names());
    words.extend(kernels::names().iter().map(|n| n.to_string()));
    words.extend(cost::TYPES.map(String::from));
    let files = [&SCENARIOS, &TRACES, &BTF].map(|corpus| corpus.files.iter());
    words.extend(
        files
            .into_iter()
            .flatten()
            .map(|f| f.0.display().to_string()),
    );
    let odd = [
        "",
        "0",
        "1",
        "-1",
        "0x10",
        "64",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "1.5h",
        "nan",
        "2G",
        "5..5",
        "0..9",
        "9..0",
        "a..b",
        "rfc,links=one",
        "rfc,",
        ",,,",
        "mainline,identity=cookie",
        "1/3",
        "0/0",
        "--",
        "--=",
        "=",
        "/",
        "/dev/null",
        "/dev/zero",
        "\u{1b}[2J",
        "\u{202e}",
        "\u{fffd}",
        "a\nb",
    ];
    words.extend(odd.map(String::from));
    words.insert("x".repeat(5000));
    words.into_iter().collect()
});

/// Words of a command line; one that is glued to the one before it is its value.
#[derive(Clone, Debug, TypeGenerator)]
struct Arguments {
    #[generator(bolero::produce::<Vec<(u16, bool)>>().with().len(0usize..=8))]
    words: Vec<(u16, bool)>,
}

impl Arguments {
    fn words(&self) -> Vec<OsString> {
        let mut words = vec!["struct-ops-sim".to_string()];
        for (number, glued) in &self.words {
            let word = &WORDS[usize::from(*number) % WORDS.len()];
            match words.last_mut() {
                Some(last) if *glued && last.starts_with("--") => *last += &format!("={word}"),
                _ => words.push(word.clone()),
            }
        }
        words.into_iter().map(OsString::from).collect()
    }
}

/// Reads a command line, and looks up what it names.
fn read_arguments(words: &[OsString]) {
    if let Err(error) = cli::look_up(words) {
        let input: Vec<u8> = words
            .iter()
            .flat_map(|w| w.as_encoded_bytes().to_vec())
            .collect();
        said(&input, &error);
    }
}

#[test]
fn arguments() {
    // No name without words.
    read_arguments(&[]);
    bolero::check!()
        .with_iterations(INPUTS)
        .with_type::<Arguments>()
        .for_each(|arguments| read_arguments(&arguments.words()));
}
