//! What the runner in the VM printed, as data. Nothing is judged here.

/// A program ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which one.
    pub prog: u8,
    /// 0 before it slept, 1 after.
    pub phase: u8,
    /// What it read.
    pub cookie: u64,
    /// Where it ran.
    pub cpu: usize,
    /// kallsyms did not name the trampoline from which it was called.
    pub unnamed: bool,
}

/// An operation that returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The CPU of the plan.
    pub cpu: usize,
    /// Its place in the plan.
    pub number: usize,
    /// When it began; stamps are in one order over all CPUs.
    pub invoked: u64,
    /// When it returned; none for an exit.
    pub returned: Option<u64>,
    /// 0, a negative errno, or what should not be.
    pub result: i64,
    /// State and count of a map that was looked up; map id and cookie of a link.
    pub aux: [i64; 2],
    /// How many trampolines kallsyms named afterwards, if anybody looked.
    pub ksyms: Option<u32>,
    /// The programs that were tied to a map afterwards, one bit each, if anybody asked.
    pub tied: Option<u32>,
    /// The programs that ran meanwhile, on any CPU.
    pub reads: Vec<Read>,
}

/// One round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Its number in the program.
    pub number: usize,
    /// The set-up, as far as it came.
    pub setup: Vec<Done>,
    /// What returned.
    pub done: Vec<Done>,
    /// CPUs and operations that did not return.
    pub hang: Vec<(usize, usize)>,
    /// Its operations came to their end, and were printed.
    pub over: bool,
    /// Processes of it that did not end.
    pub staying: usize,
    /// Lines of its operations that arrived.
    pub lines: usize,
    /// Lines that did not: a message of the kernel came in between.
    pub lost: usize,
    /// Moves of a replay that began.
    pub moves: usize,
    /// The move that could not be made, and why.
    pub unmade: Option<(usize, String)>,
}

impl Round {
    /// Every operation of the set-up returned.
    pub fn is_set_up(&self, operations: usize) -> bool {
        self.setup.len() >= operations
    }
}

/// What was left when everything was closed and all grace periods were over: more than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Maps, by their ids.
    pub maps: i64,
    /// Programs.
    pub progs: i64,
    /// Links.
    pub links: i64,
    /// Trampolines in kallsyms.
    pub ksyms: i64,
    /// References on the module.
    pub module: i64,
}

/// One run of the runner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The rounds that began.
    pub rounds: Vec<Round>,
    /// At the end; none if it did not come to it.
    pub left: Option<Left>,
    /// What went wrong with the runner itself.
    pub runner: Option<String>,
}

impl Record {
    /// Takes a line of the console, without its time stamp.
    pub fn line(&mut self, line: &str) {
        let Some((word, rest)) = line.strip_prefix('@').and_then(|line| line.split_once(' '))
        else {
            return;
        };
        let words = rest.split(' ');
        let numbers: Vec<i64> = match word {
            // words follow the number
            "mno" => words.map_while(|word| word.parse().ok()).collect(),
            // what was cut in two is no line
            "c" => read_words(rest).unwrap_or_default(),
            _ => words
                .map(|word| word.parse().ok())
                .collect::<Option<_>>()
                .unwrap_or_default(),
        };
        match (word, numbers.as_slice()) {
            // the first one is the reason of the others
            ("runner", _) => drop(self.runner.get_or_insert_with(|| rest.to_owned())),
            ("r", [number]) => {
                self.rounds.push(Round {
                    number: *number as usize,
                    ..Round::default()
                });
            }
            ("s" | "o", numbers) => {
                let Some(done) = done(numbers) else { return };
                self.round(|round| {
                    round.lines += 1;
                    let all = match word {
                        "s" => &mut round.setup,
                        _ => &mut round.done,
                    };
                    all.push(done);
                });
            }
            ("c", [_, _, prog, phase, cookie, cpu, rest @ ..]) => {
                let read = Read {
                    prog: *prog as u8,
                    phase: *phase as u8,
                    cookie: *cookie as u64,
                    cpu: *cpu as usize,
                    unnamed: rest.first().is_some_and(|unnamed| *unnamed != 0),
                };
                self.round(|round| {
                    round.lines += 1;
                    let done = round.done.last_mut().or(round.setup.last_mut());
                    if let Some(done) = done {
                        done.reads.push(read);
                    }
                });
            }
            ("hang", [cpu, operation]) => {
                self.round(|round| round.hang.push((*cpu as usize, *operation as usize)));
            }
            ("m", [number]) => self.round(|round| round.moves = *number as usize + 1),
            ("mno", [number, ..]) => {
                let why = rest.split_once(' ').map_or("", |(_, why)| why).to_owned();
                let number = usize::try_from(*number).unwrap_or(usize::MAX);
                self.round(|round| {
                    round.unmade.get_or_insert((number, why));
                });
            }
            ("d", [staying, printed]) => self.round(|round| {
                round.over = true;
                round.staying = usize::try_from(*staying).unwrap_or(0);
                round.lost = (*printed as usize).saturating_sub(round.lines);
            }),
            ("left", [maps, progs, links, ksyms, module]) => {
                self.left = Some(Left {
                    maps: *maps,
                    progs: *progs,
                    links: *links,
                    ksyms: *ksyms,
                    module: *module,
                });
            }
            _ => {}
        }
    }

    /// The runner came to its end, or to a round after which it can do no more.
    pub fn is_whole(&self) -> bool {
        let waits = |round: &Round| round.over && round.staying > 0;
        self.left.is_some() || self.rounds.last().is_some_and(waits)
    }

    fn round(&mut self, f: impl FnOnce(&mut Round)) {
        if let Some(round) = self.rounds.last_mut() {
            f(round);
        }
    }
}

/// The cookie is hexadecimal.
fn read_words(rest: &str) -> Option<Vec<i64>> {
    let number = |(place, word): (usize, &str)| match place {
        4 => u64::from_str_radix(word, 16).ok().map(|n| n as i64),
        _ => word.parse().ok(),
    };
    rest.split(' ').enumerate().map(number).collect()
}

fn done(numbers: &[i64]) -> Option<Done> {
    let [
        cpu,
        number,
        invoked,
        returned,
        result,
        first,
        second,
        ksyms,
        ref rest @ ..,
    ] = *numbers
    else {
        return None;
    };
    Some(Done {
        cpu: cpu as usize,
        number: number as usize,
        invoked: invoked as u64,
        returned: u64::try_from(returned).ok(),
        result,
        aux: [first, second],
        ksyms: u32::try_from(ksyms).ok(),
        tied: rest.first().and_then(|tied| u32::try_from(*tied).ok()),
        reads: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_a_record() {
        let mut record = Record::default();
        let text = "@r 3\n@s 0 0 0 1 0 0 0 2\n@o 1 0 2 3 -17 0 0 -1 5\n@c 1 0 4 1 ffffffffffffffff 1 1\n\
            @o 0 0 4 -1 0 0 0 -1\n@o 1 1 6 7 0[   12.3] TCP: key\n@hang 0 1\n@d 1 5\n@left 0 1 0 -3 0\n@runner no memory\nnothing";
        text.lines().for_each(|line| record.line(line));
        let round = &record.rounds[0];
        assert_eq!((round.number, round.over), (3, true));
        assert_eq!((round.lines, round.lost, round.staying), (4, 1, 1));
        assert_eq!(round.setup[0].ksyms, Some(2));
        assert_eq!((round.done[0].result, round.done[0].tied), (-17, Some(5)));
        assert_eq!(round.done[1].tied, None);
        let read = Read {
            prog: 4,
            phase: 1,
            cookie: u64::MAX,
            cpu: 1,
            unnamed: true,
        };
        assert_eq!(round.done[0].reads, [read]);
        assert_eq!(round.done[1].returned, None);
        assert_eq!(round.hang, [(0, 1)]);
        assert_eq!(record.left.unwrap().ksyms, -3);
        assert_eq!(record.runner.as_deref(), Some("no memory"));
    }
}
