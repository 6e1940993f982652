//! Writes BTF, entry by entry: complete, split, or with a layout section. It checks nothing, so that what is wrong can be
//! written too.

pub const INT: u32 = 1;
pub const PTR: u32 = 2;
pub const ARRAY: u32 = 3;
pub const STRUCT: u32 = 4;
pub const FWD: u32 = 7;
pub const FUNC_PROTO: u32 = 13;
pub const FLOAT: u32 = 16;

/// A file being written.
#[derive(Clone)]
pub struct File {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where the strings begin: behind those of a base.
    first_string: u32,
    next_id: u32,
}

impl File {
    /// A complete one.
    pub fn new() -> Self {
        File {
            types: Vec::new(),
            strings: vec![0],
            first_string: 0,
            next_id: 1,
        }
    }

    /// A split one over a base with so many types.
    pub fn on(base: &[u8], nr_types: u32) -> Self {
        File {
            types: Vec::new(),
            strings: Vec::new(),
            first_string: word(base, 20),
            next_id: nr_types,
        }
    }

    /// One that is there already, to be changed.
    pub fn read(bytes: &[u8]) -> Self {
        let section = |at: usize| {
            let start = (word(bytes, 4) + word(bytes, at)) as usize;
            bytes[start..start + word(bytes, at + 4) as usize].to_vec()
        };
        File {
            types: section(8),
            strings: section(16),
            first_string: 0,
            next_id: 0,
        }
    }

    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.first_string + self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Adds a type and returns its number.
    pub fn entry(
        &mut self,
        name: &str,
        kind: u32,
        vlen: u32,
        size_or_type: u32,
        rest: &[u32],
    ) -> u32 {
        let name = self.string(name);
        for word in [name, kind << 24 | vlen, size_or_type].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Gives everything of a name another one that is as long.
    pub fn rename(&mut self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let at = self.offset(from);
        self.strings[at..at + to.len()].copy_from_slice(to.as_bytes());
    }

    /// Changes the offset, in bits, of the field of that name.
    pub fn move_field(&mut self, name: &str, bits: u32) {
        let name = self.offset(name) as u32;
        let words = self.types.len() / 4;
        let at = (0..words).find(|&at| word(&self.types, 4 * at) == name);
        let at = 4 * (at.expect("no such field") + 2);
        self.types[at..at + 4].copy_from_slice(&bits.to_le_bytes());
    }

    fn offset(&self, name: &str) -> usize {
        let whole = [b"\0", name.as_bytes(), b"\0"].concat();
        let mut strings = self.strings.windows(whole.len());
        1 + strings
            .position(|window| window == whole)
            .expect("no such name")
    }

    /// The file, without a layout section.
    pub fn finish(&self) -> Vec<u8> {
        let words = [
            24,
            0,
            self.types.len(),
            self.types.len(),
            self.strings.len(),
        ];
        self.file(&words, &[])
    }

    /// The file with a layout section: `info_sz` and `elem_sz` of each kind.
    pub fn with_layout(&self, layout: &[[u8; 2]]) -> Vec<u8> {
        let layout: Vec<u8> = layout.iter().flat_map(|&[a, b]| [a, b, 0, 0]).collect();
        let (types, strings) = (self.types.len(), self.strings.len());
        let words = [32, 0, types, types, strings, types + strings, layout.len()];
        self.file(&words, &layout)
    }

    fn file(&self, header: &[usize], layout: &[u8]) -> Vec<u8> {
        let mut file = vec![0x9f, 0xeb, 1, 0];
        file.extend(header.iter().flat_map(|&word| (word as u32).to_le_bytes()));
        file.extend(&self.types);
        file.extend(&self.strings);
        file.extend(layout);
        file
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
