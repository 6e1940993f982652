//! BTF, the type information that kernels carry: what is needed of it to know struct_ops types, and no more.
//!
//! Stands for `kernel/bpf/btf.c` (`btf_parse_hdr()`, `btf_check_all_metas()`, `btf_distill_func_proto()`) and
//! `include/uapi/linux/btf.h`. Not a general BTF library: variables, declaration tags and data sections are stepped
//! over, as are kinds that are not known here but described in the file's layout section. The well-known reader for Rust
//! is under the LGPL and cannot write; extracts ([`extract`]) want both.

pub mod extract;
mod ops;

use std::collections::HashMap;

pub use ops::{Member, MemberKind, OpsType};

use crate::scenario::printable;

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// Kinds, as `BTF_KIND_*` counts them.
mod kind {
    pub const INT: u8 = 1;
    pub const PTR: u8 = 2;
    pub const ARRAY: u8 = 3;
    pub const STRUCT: u8 = 4;
    pub const UNION: u8 = 5;
    pub const ENUM: u8 = 6;
    pub const FWD: u8 = 7;
    pub const TYPEDEF: u8 = 8;
    pub const VOLATILE: u8 = 9;
    pub const CONST: u8 = 10;
    pub const RESTRICT: u8 = 11;
    pub const FUNC: u8 = 12;
    pub const FUNC_PROTO: u8 = 13;
    pub const VAR: u8 = 14;
    pub const DATASEC: u8 = 15;
    pub const FLOAT: u8 = 16;
    pub const DECL_TAG: u8 = 17;
    pub const TYPE_TAG: u8 = 18;
    pub const ENUM64: u8 = 19;
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// The file does not start with the BTF magic.
    #[error(
        "not BTF: it begins with {found}, expected 9f eb (raw BTF, as in /sys/kernel/btf/vmlinux){hint}"
    )]
    NotBtf {
        /// The first bytes.
        found: String,
        /// What it is instead, if that is plain to see.
        hint: &'static str,
    },
    /// Bytes in the other order.
    #[error(
        "BTF of a big-endian kernel (it begins with eb 9f, expected 9f eb): only little-endian BTF is read"
    )]
    BigEndian,
    /// Pointers of another size than are counted with.
    #[error(
        "BTF of a 32-bit kernel (`{long}` has 4 bytes, expected 8): sizes are counted for 64-bit kernels only"
    )]
    Bits32 {
        /// The type that tells.
        long: &'static str,
    },
    /// A module's BTF without that of its kernel.
    #[error(
        "split BTF, as modules have: its types and names continue those of the kernel's own BTF, expected as its base (--btf-base /sys/kernel/btf/vmlinux)"
    )]
    Split,
    /// A base for a file that needs none.
    #[error("BTF that is complete in itself: it continues no base, expected none (--btf-base)")]
    NotSplit,
    /// The header contradicts itself.
    #[error("header: {0}")]
    Header(String),
    /// A later format.
    #[error("BTF version {0}: expected 1")]
    Version(u8),
    /// The file ends too early.
    #[error("cut short: {what} ends at byte {expected}, the file has {found}")]
    CutShort {
        /// What is incomplete.
        what: &'static str,
        /// Where it ends.
        expected: usize,
        /// How long the file is.
        found: usize,
    },
    /// A type that the file does not contain, or whose entry makes no sense.
    #[error("type {id} of {types}: {what}")]
    BadType {
        /// Its number.
        id: u32,
        /// How many there are.
        types: usize,
        /// What is wrong.
        what: String,
    },
    /// It is not there.
    #[error("no {name} in it{hint}")]
    Missing {
        /// What was looked for.
        name: String,
        /// What is there instead, or why it may not be.
        hint: String,
    },
}

/// One type; numbers are other types' ids, 0 is void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Integers and enumerations.
    Scalar {
        /// In bytes.
        size: u32,
    },
    /// A floating point number.
    Float {
        /// In bytes.
        size: u32,
    },
    /// A pointer.
    Ptr(u32),
    /// An array.
    Array {
        /// Of what.
        of: u32,
        /// How many.
        len: u32,
    },
    /// A struct or a union.
    Struct {
        /// In bytes.
        size: u32,
        /// A union.
        union: bool,
        /// Name, type and offset in bits.
        fields: Vec<Field>,
    },
    /// typedef, const, volatile, restrict, type tag.
    Alias(u32),
    /// A function's type.
    FuncProto {
        /// What it returns.
        ret: u32,
        /// Names and types of its parameters.
        params: Vec<(String, u32)>,
    },
    /// A function; its type.
    Func(u32),
    /// What no struct_ops type consists of.
    Other,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: u32,
    /// Where in the struct, in bits.
    pub bit_offset: u32,
}

/// All types of a file.
#[derive(Clone, Debug)]
pub struct Btf {
    /// Index 0 is void.
    types: Vec<(String, Type)>,
    structs: HashMap<String, u32>,
    funcs: HashMap<String, u32>,
    /// The string section: names of split BTF are in its base's.
    strings: Vec<u8>,
    /// The layout section: split BTF without one has its base's.
    layout: Vec<Layout>,
}

impl Btf {
    /// Reads raw BTF that is complete in itself: a kernel's.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let header = Header::parse(bytes)?;
        if header.split() {
            return Err(BtfError::Split);
        }
        let void = (String::new(), Type::Other);
        Btf {
            types: vec![void],
            structs: HashMap::new(),
            funcs: HashMap::new(),
            strings: Vec::new(),
            layout: Vec::new(),
        }
        .extended(&header)
    }

    /// Reads raw split BTF, a module's, that continues a kernel's.
    pub fn parse_split(bytes: &[u8], base: Btf) -> Result<Self, BtfError> {
        let header = Header::parse(bytes)?;
        if !header.split() {
            return Err(BtfError::NotSplit);
        }
        base.extended(&header).map_err(|error| match error {
            BtfError::BadType { id, types, what } => BtfError::BadType {
                id,
                types,
                what: format!("{what} (expected the base that this was made with)"),
            },
            error => error,
        })
    }

    /// With the types of a file behind its own.
    fn extended(mut self, header: &Header<'_>) -> Result<Self, BtfError> {
        if !header.layout.is_empty() {
            self.layout = header.layout.clone();
        }
        let first = self.types.len();
        let mut reader = Reader {
            bytes: header.types,
            at: 0,
            base_strings: &self.strings,
            strings: header.strings,
            layout: &self.layout,
        };
        while reader.at < reader.bytes.len() {
            let id = self.types.len();
            let one = reader.one().map_err(|what| BtfError::BadType {
                id: id as u32,
                types: id,
                what,
            })?;
            self.types.push(one);
        }
        self.strings.extend(header.strings);
        self.check(first)?;
        for (id, (name, ty)) in self.types.iter().enumerate().skip(first) {
            let names = match ty {
                Type::Struct { union: false, .. } => &mut self.structs,
                Type::Func(_) => &mut self.funcs,
                _ => continue,
            };
            if !name.is_empty() {
                // like the kernel: the first of that name
                names.entry(name.clone()).or_insert(id as u32);
            }
        }
        self.check_pointer_size()?;
        Ok(self)
    }

    /// `determine_ptr_size()` of libbpf: a kernel's long is as large as its pointers. Extracts may have none.
    fn check_pointer_size(&self) -> Result<(), BtfError> {
        const LONG: [&str; 4] = ["long int", "long unsigned int", "long", "unsigned long"];
        let long = |name: &str| LONG.into_iter().find(|long| *long == name);
        let four_bytes = |(name, ty): &(String, Type)| match ty {
            Type::Scalar { size: 4 } => long(name),
            _ => None,
        };
        match self.types.iter().find_map(four_bytes) {
            Some(long) => Err(BtfError::Bits32 { long }),
            None => Ok(()),
        }
    }

    /// Every type that one of the new types refers to exists.
    fn check(&self, first: usize) -> Result<(), BtfError> {
        for (id, (_, ty)) in self.types.iter().enumerate().skip(first) {
            let refers = match ty {
                Type::Ptr(to) | Type::Alias(to) | Type::Func(to) => vec![*to],
                Type::Array { of, .. } => vec![*of],
                Type::Struct { fields, .. } => fields.iter().map(|f| f.ty).collect(),
                Type::FuncProto { ret, params } => {
                    params.iter().map(|(_, ty)| *ty).chain([*ret]).collect()
                }
                Type::Scalar { .. } | Type::Float { .. } | Type::Other => Vec::new(),
            };
            if let Some(to) = refers
                .into_iter()
                .find(|&to| to as usize >= self.types.len())
            {
                return Err(BtfError::BadType {
                    id: id as u32,
                    types: self.types.len(),
                    what: format!("refers to type {to}, which does not exist"),
                });
            }
        }
        Ok(())
    }

    /// A type and its name.
    pub fn get(&self, id: u32) -> (&str, &Type) {
        match self.types.get(id as usize) {
            Some((name, ty)) => (name, ty),
            None => ("", &Type::Other),
        }
    }

    /// A struct's id.
    pub fn find_struct(&self, name: &str) -> Option<u32> {
        self.structs.get(name).copied()
    }

    /// Where a field is in its struct, in bytes; fields of anonymous structs and unions inside it are not looked at.
    pub fn field_offset(&self, name: &str, field: &str) -> Option<u32> {
        match self.get(self.find_struct(name)?).1 {
            Type::Struct { fields, .. } => {
                let field = fields.iter().find(|f| f.name == field)?;
                Some(field.bit_offset / 8)
            }
            _ => None,
        }
    }

    /// Names of a function's parameters; `None` if there is no such function.
    pub fn param_names(&self, function: &str) -> Option<impl Iterator<Item = &str>> {
        let (_, Type::Func(proto)) = self.get(*self.funcs.get(function)?) else {
            return None;
        };
        match self.get(*proto).1 {
            Type::FuncProto { params, .. } => Some(params.iter().map(|(name, _)| name.as_str())),
            _ => None,
        }
    }

    /// How many types there are, void and those of the base included (`btf_nr_types()`).
    pub fn nr_types(&self) -> usize {
        self.types.len()
    }

    /// A function's id.
    pub fn find_func(&self, name: &str) -> Option<u32> {
        self.funcs.get(name).copied()
    }

    /// All structs that are struct_ops types: those with a `bpf_struct_ops_NAME` beside them.
    pub fn ops_types(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .structs
            .keys()
            .filter_map(|name| name.strip_prefix("bpf_struct_ops_"))
            .filter(|name| self.structs.contains_key(*name))
            .collect();
        names.sort_unstable();
        names
    }

    /// Past typedefs and modifiers; `None` for void and for a chain without end.
    pub fn skip(&self, mut id: u32) -> Option<(u32, &Type)> {
        for _ in 0..self.types.len() {
            match self.get(id).1 {
                _ if id == 0 => return None,
                Type::Alias(to) => id = *to,
                ty => return Some((id, ty)),
            }
        }
        None
    }

    /// Size in bytes, 0 for void; `None` for what has none.
    pub fn size(&self, id: u32) -> Option<usize> {
        self.size_within(id, 32)
    }

    fn size_within(&self, id: u32, depth: usize) -> Option<usize> {
        match self.skip(id) {
            None => (self.resolves_to_void(id)).then_some(0),
            Some((_, Type::Scalar { size } | Type::Float { size } | Type::Struct { size, .. })) => {
                Some(*size as usize)
            }
            Some((_, Type::Ptr(_))) => Some(8),
            Some((_, Type::Array { of, len })) if depth > 0 => {
                self.size_within(*of, depth - 1)?.checked_mul(*len as usize)
            }
            Some(_) => None,
        }
    }

    fn resolves_to_void(&self, mut id: u32) -> bool {
        for _ in 0..self.types.len() {
            match self.get(id).1 {
                _ if id == 0 => return true,
                Type::Alias(to) => id = *to,
                _ => return false,
            }
        }
        false
    }

    /// Size of a struct of the kernel, by name.
    pub fn struct_size(&self, name: &str) -> Result<usize, BtfError> {
        let id = self.find_struct(name).ok_or_else(|| BtfError::Missing {
            name: format!("struct `{name}`"),
            hint: ", from whose size memory is counted".to_owned(),
        })?;
        Ok(self.size(id).unwrap_or(0))
    }
}

/// `struct btf_layout`: how long entries of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// What follows the `struct btf_type`, in bytes.
    info_sz: u8,
    /// And again that many bytes for each of its elements.
    elem_sz: u8,
}

/// `KSYM_NAME_LEN`: the longest name that the kernel takes, with its end.
const NAME_LEN: usize = 512;

/// The oldest header, and the one with a layout section.
const HEADER_LEN: [usize; 2] = [24, 32];

struct Header<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    layout: Vec<Layout>,
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let short = |what, expected| BtfError::CutShort {
            what,
            expected,
            found: bytes.len(),
        };
        match bytes {
            [a, b, ..] if u16::from_le_bytes([*a, *b]) == MAGIC => {}
            [a, b, ..] if u16::from_be_bytes([*a, *b]) == MAGIC => return Err(BtfError::BigEndian),
            [] => return Err(short("the header", HEADER_LEN[0])),
            _ => {
                let first = &bytes[..bytes.len().min(4)];
                let found: Vec<String> = first.iter().map(|b| format!("{b:02x}")).collect();
                let hint = match first {
                    b"\x7fELF" => {
                        "; an ELF file's is in its .BTF section: objcopy --dump-section .BTF=OUT FILE /dev/null"
                    }
                    _ => "",
                };
                return Err(BtfError::NotBtf {
                    found: found.join(" "),
                    hint,
                });
            }
        }
        if bytes.len() < HEADER_LEN[0] {
            return Err(short("the header", HEADER_LEN[0]));
        }
        if bytes[2] != 1 {
            return Err(BtfError::Version(bytes[2]));
        }
        let word = |at: usize| word(bytes, at).unwrap_or(0) as usize;
        let len = word(4);
        if len < HEADER_LEN[0] {
            let least = HEADER_LEN[0];
            let what = format!("it says that it has {len} bytes, expected at least {least}");
            return Err(BtfError::Header(what));
        }
        let section = |what, offset: usize, section: usize| {
            let start = len.checked_add(offset);
            let end = start
                .and_then(|start| start.checked_add(section))
                .unwrap_or(usize::MAX);
            bytes
                .get(start.unwrap_or(usize::MAX)..end)
                .ok_or_else(|| short(what, end))
        };
        let layout: &[u8] = if len >= HEADER_LEN[1] {
            section("the layout section", word(24), word(28))?
        } else {
            &[]
        };
        if !layout.len().is_multiple_of(4) {
            let what = format!(
                "the layout section has {} bytes, expected a multiple of 4",
                layout.len()
            );
            return Err(BtfError::Header(what));
        }
        Ok(Header {
            types: section("the type section", word(8), word(12))?,
            strings: section("the string section", word(16), word(20))?,
            layout: layout
                .chunks_exact(4)
                .map(|kind| Layout {
                    info_sz: kind[0],
                    elem_sz: kind[1],
                })
                .collect(),
        })
    }

    /// Complete BTF begins its strings with the empty one; split BTF finds that in its base.
    fn split(&self) -> bool {
        self.strings.first() != Some(&0)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

struct Reader<'a> {
    /// The type section.
    bytes: &'a [u8],
    at: usize,
    /// Names below this one's length are in the base's strings.
    base_strings: &'a [u8],
    strings: &'a [u8],
    layout: &'a [Layout],
}

impl Reader<'_> {
    fn next(&mut self) -> Result<u32, String> {
        let value =
            word(self.bytes, self.at).ok_or("its entry is cut off by the end of the section")?;
        self.at += 4;
        Ok(value)
    }

    fn skip(&mut self, words: usize) -> Result<(), String> {
        for _ in 0..words {
            self.next()?;
        }
        Ok(())
    }

    /// Room for as many as there are said to be, but for no more than the file can hold.
    fn room<T>(&self, count: usize, words: usize) -> Vec<T> {
        Vec::with_capacity(count.min((self.bytes.len() - self.at) / (4 * words)))
    }

    fn name(&mut self) -> Result<String, String> {
        let offset = self.next()?;
        let at = offset as usize;
        let (strings, at) = match at.checked_sub(self.base_strings.len()) {
            Some(own) => (self.strings, own),
            None => (self.base_strings, at),
        };
        let rest = strings
            .get(at..)
            .filter(|rest| !rest.is_empty())
            .ok_or_else(|| format!("its name is at {offset}, beyond the strings"))?;
        // with another base than the module was built with, names would be cut out of others
        if !self.base_strings.is_empty() && at > 0 && strings[at - 1] != 0 {
            return Err(format!(
                "its name is at {offset}, in the middle of a string"
            ));
        }
        let near = &rest[..rest.len().min(NAME_LEN)];
        let end = near
            .iter()
            .position(|&b| b == 0)
            .ok_or("its name has no end")?;
        // A tag may be any text, and nothing but text.
        Ok(printable(&String::from_utf8_lossy(&near[..end]), NAME_LEN))
    }

    /// Steps over what follows the entry of a kind that is not known here.
    fn unknown(&mut self, kind: u8, vlen: usize) -> Result<(), String> {
        // 0 is no kind, whatever the layout section says
        let described = self.layout.get(usize::from(kind)).filter(|_| kind != 0);
        let Some(layout) = described else {
            let known = kind::ENUM64;
            return Err(match self.layout.len() {
                0 => format!(
                    "kind {kind}, expected 1 to {known}, or a layout section in the file that says how long entries of \
                     other kinds are"
                ),
                kinds => format!(
                    "kind {kind}, expected 1 to {known}, or below {kinds}: the layout section describes no more"
                ),
            });
        };
        let (info, elem) = (usize::from(layout.info_sz), usize::from(layout.elem_sz));
        if info % 4 != 0 || elem % 4 != 0 {
            return Err(format!(
                "kind {kind}, of which the layout section says {info} bytes and {elem} for each element: expected \
                 multiples of 4"
            ));
        }
        self.skip(info / 4 + vlen * (elem / 4))
    }

    fn one(&mut self) -> Result<(String, Type), String> {
        let name = self.name()?;
        let info = self.next()?;
        let size_or_type = self.next()?;
        // 16 and 5 bits before 7.2, the others 0
        let vlen = (info & 0xff_ffff) as usize;
        let kind_flag = info >> 31 == 1;
        let ty = match (info >> 24 & 0x7f) as u8 {
            kind::INT => {
                self.skip(1)?;
                Type::Scalar { size: size_or_type }
            }
            kind::FLOAT => Type::Float { size: size_or_type },
            kind::ENUM => {
                self.skip(2 * vlen)?;
                Type::Scalar { size: size_or_type }
            }
            kind::ENUM64 => {
                self.skip(3 * vlen)?;
                Type::Scalar { size: size_or_type }
            }
            kind::PTR => Type::Ptr(size_or_type),
            kind::ARRAY => {
                let of = self.next()?;
                self.skip(1)?;
                Type::Array {
                    of,
                    len: self.next()?,
                }
            }
            kind @ (kind::STRUCT | kind::UNION) => {
                let mut fields = self.room(vlen, 3);
                for _ in 0..vlen {
                    let name = self.name()?;
                    let ty = self.next()?;
                    let offset = self.next()?;
                    // with the flag, the upper byte is a bit field's width
                    let bit_offset = if kind_flag {
                        offset & 0xff_ffff
                    } else {
                        offset
                    };
                    fields.push(Field {
                        name,
                        ty,
                        bit_offset,
                    });
                }
                Type::Struct {
                    size: size_or_type,
                    union: kind == kind::UNION,
                    fields,
                }
            }
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                Type::Alias(size_or_type)
            }
            kind::FUNC_PROTO => {
                let mut params = self.room(vlen, 2);
                for _ in 0..vlen {
                    params.push((self.name()?, self.next()?));
                }
                Type::FuncProto {
                    ret: size_or_type,
                    params,
                }
            }
            kind::FUNC => Type::Func(size_or_type),
            kind::FWD => Type::Other,
            kind::VAR | kind::DECL_TAG => {
                self.skip(1)?;
                Type::Other
            }
            kind::DATASEC => {
                self.skip(3 * vlen)?;
                Type::Other
            }
            other => {
                self.unknown(other, vlen)?;
                Type::Other
            }
        };
        Ok((name, ty))
    }
}
