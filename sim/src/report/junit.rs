//! Results as JUnit XML, which CI systems show: a test suite per scenario, a test case per design and invariant.
//!
//! A failure is what exit status 1 stands for; what was not seen whole is an error, and so is a set-up that fails without
//! a word of it in the scenario; what nothing can be said of is skipped.

use std::io::{Error, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use struct_ops_model::Invariant;

use crate::scenario::Expect;
use crate::verdict::{
    Counterexample, Expected, FailOn, Results, Run, SetUpFails, Skipped, Verdict,
};

/// How a test case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// With what there is to say.
    Passed(String),
    Failed {
        message: String,
        text: String,
    },
    Error(String),
    Skipped(String),
}

/// A test case.
struct Test<'a> {
    design: &'a str,
    name: &'a str,
    end: End,
}

/// The test case that a set-up is, where there is something to say of it.
const SET_UP: &str = "set-up";

/// The document; `tell` tells a counterexample as text.
///
/// # Errors
/// What `tell` says.
pub fn junit<E>(
    results: &Results,
    fail_on: FailOn,
    tell: impl Fn(&Run, &Counterexample) -> Result<String, E>,
) -> Result<String, E> {
    let mut suites = Vec::new();
    for scenario in &results.scenarios {
        let name = scenario.name();
        let runs = results.runs.iter().filter(|r| r.scenario == name);
        let (mut tests, mut seconds) = (Vec::new(), 0.0);
        for run in runs {
            seconds += run.seconds;
            for invariant in &results.invariants {
                tests.push(Test {
                    design: &run.design.name,
                    name: invariant.id(),
                    end: judge(run, *invariant, fail_on, &tell)?,
                });
            }
        }
        for failed in results.failed.iter().filter(|f| f.scenario == name) {
            tests.push(Test {
                design: &failed.design.name,
                name: SET_UP,
                end: match failed.expected {
                    Some(Expect::SetUpFails) => End::Passed(format!("{}, as expected", failed.why)),
                    Some(Expect::Violated(_)) => End::Failed {
                        message: SetUpFails::WORD.into(),
                        text: failed.why.clone(),
                    },
                    None => End::Error(format!("{}: {}", SetUpFails::WORD, failed.why)),
                },
            });
        }
        for run in results.working_set_ups().filter(|r| r.scenario == name) {
            tests.push(Test {
                design: &run.design.name,
                name: SET_UP,
                end: End::Failed {
                    message: format!(
                        "expected that the {}, found that it works",
                        SetUpFails::WORD
                    ),
                    text: String::new(),
                },
            });
        }
        let skipped = results.skipped.iter().filter(|s| s.scenario == name);
        for Skipped { design, .. } in skipped {
            tests.push(Test {
                design: &design.name,
                name: "explored",
                end: End::Error("not explored at all".into()),
            });
        }
        suites.push((name, tests, seconds));
    }
    Ok(write(&suites).expect("memory can be written to and XML is text"))
}

fn judge<E>(
    run: &Run,
    invariant: Invariant,
    fail_on: FailOn,
    tell: impl Fn(&Run, &Counterexample) -> Result<String, E>,
) -> Result<End, E> {
    let verdict = run.verdict(invariant);
    let failed = match fail_on {
        FailOn::Difference => run.differs(invariant),
        FailOn::Violation => verdict == Verdict::Violated,
    };
    if failed {
        let expected = run.expected(invariant).map(Expected::word);
        let found = run.shortest(invariant);
        return Ok(End::Failed {
            message: match expected {
                Some(expected) if expected != verdict.word() => {
                    format!("expected {expected}, found {}", verdict.word())
                }
                Some(_) => format!("{}, and the scenario expects it", verdict.word()),
                None => verdict.word().into(),
            },
            text: found.map_or(Ok(String::new()), |c| tell(run, c))?,
        });
    }
    Ok(match verdict {
        Verdict::Holds => End::Passed(String::new()),
        Verdict::Violated => End::Passed(match run.expected(invariant) {
            Some(_) => "violated, as expected".into(),
            None => "violated; the scenario says nothing of this design".into(),
        }),
        Verdict::Incomplete => End::Error(match run.bound {
            Some(bound) => format!("not everything was seen: {}", bound.reason()),
            None => verdict.word().into(),
        }),
        Verdict::NeverExercised | Verdict::NotAsked | Verdict::NotApplicable => {
            End::Skipped(format!("{}: {}", verdict.word(), verdict.meaning()))
        }
    })
}

/// How many tests, failures, errors, skipped ones.
fn counts<'a>(tests: impl Iterator<Item = &'a Test<'a>>) -> [(&'static str, String); 4] {
    let mut n = [0; 4];
    for test in tests {
        n[0] += 1;
        match test.end {
            End::Passed(_) => {}
            End::Failed { .. } => n[1] += 1,
            End::Error(_) => n[2] += 1,
            End::Skipped(_) => n[3] += 1,
        }
    }
    let names = ["tests", "failures", "errors", "skipped"];
    std::array::from_fn(|i| (names[i], n[i].to_string()))
}

fn write(suites: &[(&str, Vec<Test<'_>>, f64)]) -> Result<String, Error> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all = suites.iter().flat_map(|s| &s.1);
    let root = xml
        .create_element("testsuites")
        .with_attribute(("name", "struct-ops-sim check"));
    let root = counts(all).into_iter().fold(root, attribute);
    root.write_inner_content(|xml| suites.iter().try_for_each(|suite| self::suite(xml, suite)))?;
    let text = String::from_utf8(xml.into_inner()).map_err(Error::other)?;
    Ok(text + "\n")
}

type Element<'a, W> = quick_xml::writer::ElementWriter<'a, W>;

fn attribute<'a, W: Write>(
    element: Element<'a, W>,
    (name, value): (&str, String),
) -> Element<'a, W> {
    element.with_attribute((name, clean(&value).as_str()))
}

fn suite<W: Write>(
    xml: &mut Writer<W>,
    (name, tests, seconds): &(&str, Vec<Test<'_>>, f64),
) -> Result<(), Error> {
    let element = attribute(xml.create_element("testsuite"), ("name", name.to_string()));
    let element = counts(tests.iter()).into_iter().fold(element, attribute);
    let element = attribute(element, ("time", format!("{seconds:.3}")));
    element.write_inner_content(|xml| tests.iter().try_for_each(|test| case(xml, name, test)))?;
    Ok(())
}

fn case<W: Write>(xml: &mut Writer<W>, suite: &str, test: &Test<'_>) -> Result<(), Error> {
    let element = xml.create_element("testcase");
    let element = attribute(element, ("classname", format!("{suite}.{}", test.design)));
    let element = attribute(element, ("name", test.name.to_string()));
    let (tag, message, text) = match &test.end {
        End::Passed(said) if said.is_empty() => {
            element.write_empty()?;
            return Ok(());
        }
        End::Passed(said) => {
            element.write_inner_content(|xml| {
                let text = BytesText::new(said);
                xml.create_element("system-out").write_text_content(text)?;
                Ok(())
            })?;
            return Ok(());
        }
        End::Failed { message, text } => ("failure", message, text.as_str()),
        End::Error(message) => ("error", message, ""),
        End::Skipped(message) => ("skipped", message, ""),
    };
    element.write_inner_content(|xml| {
        let inner = attribute(xml.create_element(tag), ("message", message.clone()));
        match text {
            "" => inner.write_empty()?,
            text => inner.write_text_content(BytesText::new(&clean(text)))?,
        };
        Ok(())
    })?;
    Ok(())
}

/// Text as XML 1.0 may have it: what is no character there is shown as Rust writes it.
fn clean(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use quick_xml::events::Event;
    use quick_xml::{Reader, XmlVersion};

    use super::*;

    fn test(end: End) -> Test<'static> {
        Test {
            design: "rfc",
            name: "no-leak",
            end,
        }
    }

    /// Whatever stands in a name or a text, it is XML, and a reader gets it back.
    #[test]
    fn any_text_is_valid_xml() {
        let nasty = "a<b> & \"c\" 'd' ]]> \u{1b}[31m \u{0} \u{fffe} \u{7f} \u{e9} \n\t end";
        let suites = [(
            nasty,
            vec![
                test(End::Passed(String::new())),
                test(End::Failed {
                    message: nasty.into(),
                    text: nasty.into(),
                }),
                test(End::Error(nasty.into())),
                test(End::Skipped("why".into())),
            ],
            1.5,
        )];
        let xml = write(&suites).unwrap();
        let allowed =
            |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{7e}' | '\u{a0}'..='\u{d7ff}');
        assert!(xml.chars().all(allowed), "{xml}");
        let mut reader = Reader::from_str(&xml);
        let (mut elements, mut text) = (Vec::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => break,
                Event::Start(e) | Event::Empty(e) => {
                    let attribute = |name: &str| {
                        let found = e.try_get_attribute(name).unwrap()?;
                        let value = found.normalized_value(XmlVersion::Implicit1_0);
                        Some(value.unwrap().into_owned())
                    };
                    let name = e.name().as_ref().to_string();
                    elements.push((name, attribute("name"), attribute("message")));
                }
                Event::Text(t) => text += &t,
                Event::GeneralRef(r) => text += &format!("&{};", &*r),
                _ => {}
            }
        }
        let names: Vec<&str> = elements.iter().map(|e| e.0.as_str()).collect();
        assert_eq!(
            names,
            [
                "testsuites",
                "testsuite",
                "testcase",
                "testcase",
                "failure",
                "testcase",
                "error",
                "testcase",
                "skipped"
            ]
        );
        let shown = clean(nasty);
        assert_eq!(elements[1].1.as_deref(), Some(shown.as_str()));
        assert_eq!(elements[4].2.as_deref(), Some(shown.as_str()));
        assert!(text.contains("a&lt;b&gt; &amp; "), "{text}");
        assert!(
            shown.contains("\\u{1b}[31m \\u{0} \\u{fffe} \\u{7f} \u{e9}"),
            "{shown}"
        );
        let counts = "tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\"";
        assert_eq!(xml.matches(counts).count(), 2, "{xml}");
    }
}
