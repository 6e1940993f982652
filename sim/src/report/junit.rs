//! Results as JUnit XML, which CI systems show: a test suite per scenario, a test case per design and invariant.
//!
//! A failure is what exit status 1 stands for; what was not seen whole, and what is wrong with a scenario, is an error;
//! what nothing can be said of is skipped.

use std::io::{Error, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use struct_ops_model::{Design, Invariant};

use super::summary::vacuous as vacuous_text;
use crate::scenario::Expect;
use crate::verdict::{
    Counterexample, Expected, FailOn, Results, Run, SetUpFails, Skipped, Vacuous, Verdict,
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
    /// Of which design, if it is about one.
    design: Option<&'a str>,
    name: String,
    end: End,
}

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
        let name = scenario.head().name.as_str();
        let runs = results.runs.iter().filter(|r| r.scenario == name);
        let (mut tests, mut seconds) = (Vec::new(), 0.0);
        for run in runs {
            seconds += run.seconds;
            for invariant in &results.invariants {
                tests.push(Test {
                    design: Some(&run.design.name),
                    name: invariant.id().into(),
                    end: judge(run, *invariant, fail_on, &tell)?,
                });
            }
        }
        let skipped = results.skipped.iter().filter(|s| s.scenario == name);
        for Skipped { design, .. } in skipped {
            tests.push(Test {
                design: Some(&design.name),
                name: "explored".into(),
                end: End::Error("not explored at all".into()),
            });
        }
        tests.extend(set_ups(results, name));
        let vacuous = results.vacuous().into_iter().filter(|v| v.0 == name);
        tests.extend(vacuous.map(|(_, what)| Test {
            design: None,
            name: "everything happens".into(),
            end: match what {
                Vacuous::Nothing => End::Error(vacuous_text(&what)),
                _ => End::Skipped(vacuous_text(&what)),
            },
        }));
        suites.push((name, tests, seconds));
    }
    Ok(write(&suites).expect("memory can be written to and XML is text"))
}

/// Set-ups that fail, and those that do not although the scenario says so.
fn set_ups<'a>(results: &'a Results, scenario: &str) -> Vec<Test<'a>> {
    let test = |design: &'a Design, end| Test {
        design: Some(&design.name),
        name: "set-up".into(),
        end,
    };
    let failed = results.failed.iter().filter(|f| f.scenario == scenario);
    let failed = failed.map(|f| {
        let end = match f.expected {
            Some(Expect::SetUpFails) => {
                End::Passed(format!("{}, as expected: {}", SetUpFails::WORD, f.why))
            }
            Some(Expect::Violated(_)) => End::Failed {
                message: format!("{}: {}", SetUpFails::WORD, f.why),
                text: String::new(),
            },
            None => End::Error(format!("{}: {}", SetUpFails::WORD, f.why)),
        };
        test(&f.design, end)
    });
    let working = results.working_set_ups().filter(|r| r.scenario == scenario);
    let working = working.map(|run| {
        let message = format!("expected {}, found that it works", SetUpFails::WORD);
        let text = String::new();
        test(&run.design, End::Failed { message, text })
    });
    failed.chain(working).collect()
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
    let class = test.design.map(|design| format!("{suite}.{design}"));
    let class = class.unwrap_or_else(|| suite.into());
    let element = attribute(element, ("classname", class));
    let element = attribute(element, ("name", test.name.clone()));
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
            design: Some("rfc"),
            name: "no-leak".into(),
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
