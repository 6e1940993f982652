//! Inputs that are almost right: the files of a corpus with a few words changed.
//!
//! What a word is says the reader's test; the changes are the same for all. Not here: what is done with an input.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bolero::TypeGenerator;

/// One change; numbers wrap around at the end of what there is.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Edit {
    /// Another word in the place of one.
    Replace { at: u16, word: u16 },
    /// One word more.
    Insert { at: u16, word: u16 },
    /// Some words less.
    Remove { at: u16, count: u8 },
    /// Some words once more, elsewhere.
    Copy { from: u16, count: u8, to: u16 },
    /// Some words of another file.
    Graft {
        file: u16,
        from: u16,
        count: u8,
        to: u16,
    },
    /// Another byte in the place of one.
    Byte { at: u16, byte: u8 },
    /// The end of the file.
    Cut { at: u16 },
}

/// The number of a file, and what is changed in it.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Mutant {
    file: u16,
    #[generator(bolero::produce::<Vec<Edit>>().with().len(1usize..=6))]
    edits: Vec<Edit>,
}

/// Takes a file apart; the words, one after the other, are the file again.
pub type Split = fn(&[u8]) -> Vec<Vec<u8>>;

/// Files and words from which inputs are made.
pub struct Corpus {
    pub files: Vec<(PathBuf, Vec<u8>)>,
    words: Vec<Vec<u8>>,
    split: Split,
}

impl Corpus {
    /// The files in some folders of the crate whose names end so, and words that are in none of them.
    pub fn read(folders: &[&str], extension: &str, split: Split, odd: &[&[u8]]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let entries = folders.iter().flat_map(|folder| {
            let folder = root.join(folder);
            fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        });
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|e| e == extension))
            .collect();
        paths.sort();
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).expect("a file");
            (path, bytes)
        };
        let files: Vec<(PathBuf, Vec<u8>)> = paths.into_iter().map(read).collect();
        assert!(files.len() > 1, "no corpus in {folders:?}");
        let mut words: BTreeSet<Vec<u8>> = odd.iter().map(|w| w.to_vec()).collect();
        words.extend(files.iter().flat_map(|f| split(&f.1)));
        Corpus {
            files,
            words: words.into_iter().collect(),
            split,
        }
    }

    /// A file with changes.
    pub fn input(&self, mutant: &Mutant) -> Vec<u8> {
        let mut words = self.apart(mutant.file);
        for edit in &mutant.edits {
            self.change(&mut words, edit);
        }
        words.concat()
    }

    fn apart(&self, file: u16) -> Vec<Vec<u8>> {
        (self.split)(&self.files[usize::from(file) % self.files.len()].1)
    }

    fn word(&self, number: u16) -> Vec<u8> {
        self.words[usize::from(number) % self.words.len()].clone()
    }

    fn change(&self, words: &mut Vec<Vec<u8>>, edit: &Edit) {
        // Also the place after the last word.
        let place = |words: &[Vec<u8>], at: u16| usize::from(at) % (words.len() + 1);
        let some = |words: &[Vec<u8>], from: u16, count: u8| {
            let from = place(words, from);
            let to = words.len().min(from + usize::from(count % 32));
            from..to
        };
        match *edit {
            Edit::Replace { at, word } => {
                let at = place(words, at);
                if let Some(old) = words.get_mut(at) {
                    *old = self.word(word);
                }
            }
            Edit::Insert { at, word } => words.insert(place(words, at), self.word(word)),
            Edit::Remove { at, count } => drop(words.drain(some(words, at, count))),
            Edit::Copy { from, count, to } => {
                let copy = words[some(words, from, count)].to_vec();
                let to = place(words, to);
                words.splice(to..to, copy);
            }
            Edit::Graft {
                file,
                from,
                count,
                to,
            } => {
                let other = self.apart(file);
                let copy = other[some(&other, from, count)].to_vec();
                let to = place(words, to);
                words.splice(to..to, copy);
            }
            Edit::Byte { at, byte } => {
                let at = place(words, at);
                if let Some(old) = words.get_mut(at).and_then(|w| w.first_mut()) {
                    *old = byte;
                }
            }
            Edit::Cut { at } => words.truncate(place(words, at)),
        }
    }
}

/// Names, numbers, white space, and every other byte by itself.
pub fn text(bytes: &[u8]) -> Vec<Vec<u8>> {
    let class = |b: &u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | 0x80.. => 0,
        b' ' => 1,
        other => 2 + u16::from(*other),
    };
    let same = |a: &u8, b: &u8| class(a) == class(b) && class(a) < 2;
    bytes.chunk_by(same).map(<[u8]>::to_vec).collect()
}

/// Four bytes each, as BTF is made; a name is several.
pub fn words(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.chunks(4).map(<[u8]>::to_vec).collect()
}
