//! BTF, the type information that kernels carry: what is needed of it to know struct_ops types, and no more.
//!
//! Stands for `kernel/bpf/btf.c` (`btf_parse_hdr()`, `btf_check_all_metas()`, `btf_distill_func_proto()`) and
//! `include/uapi/linux/btf.h`. Not a general BTF library: declaration tags, data sections and functions are skipped
//! over, modules' split BTF is not read. The well-known reader for Rust is under the LGPL and cannot write; extracts
//! ([`extract`]) want both.

pub mod extract;
mod ops;

use std::collections::HashMap;

pub use ops::{Member, MemberKind, OpsType};

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
    /// Something else.
    #[error(
        "not BTF: it begins with {found}, expected 9f eb (raw BTF, as in /sys/kernel/btf/vmlinux)"
    )]
    NotBtf {
        /// The first bytes.
        found: String,
    },
    /// Bytes in the other order.
    #[error("BTF of a big-endian kernel: not supported, trampolines are x86-64 code")]
    BigEndian,
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
    /// Integers, enumerations and floating point numbers.
    Scalar {
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
}

impl Btf {
    /// Reads raw BTF.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let header = Header::parse(bytes)?;
        let mut reader = Reader {
            bytes: header.types,
            at: 0,
        };
        let mut types = vec![(String::new(), Type::Other)];
        while reader.at < reader.bytes.len() {
            let id = types.len() as u32;
            let one = reader
                .one(header.strings)
                .map_err(|what| BtfError::BadType {
                    id,
                    types: types.len(),
                    what,
                })?;
            types.push(one);
        }
        let mut btf = Btf {
            types,
            structs: HashMap::new(),
        };
        btf.check()?;
        for (id, (name, ty)) in btf.types.iter().enumerate() {
            if matches!(ty, Type::Struct { union: false, .. }) && !name.is_empty() {
                // like the kernel: the first of that name
                btf.structs.entry(name.clone()).or_insert(id as u32);
            }
        }
        Ok(btf)
    }

    /// Every type that is referred to exists.
    fn check(&self) -> Result<(), BtfError> {
        for (id, (_, ty)) in self.types.iter().enumerate() {
            let refers = match ty {
                Type::Ptr(to) | Type::Alias(to) => vec![*to],
                Type::Array { of, .. } => vec![*of],
                Type::Struct { fields, .. } => fields.iter().map(|f| f.ty).collect(),
                Type::FuncProto { ret, params } => {
                    params.iter().map(|(_, ty)| *ty).chain([*ret]).collect()
                }
                Type::Scalar { .. } | Type::Other => Vec::new(),
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
            Some((_, Type::Scalar { size } | Type::Struct { size, .. })) => Some(*size as usize),
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
            hint: String::new(),
        })?;
        Ok(self.size(id).unwrap_or(0))
    }
}

struct Header<'a> {
    types: &'a [u8],
    strings: &'a [u8],
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
            [] => return Err(short("the header", 24)),
            _ => {
                let first = &bytes[..bytes.len().min(4)];
                let found: Vec<String> = first.iter().map(|b| format!("{b:02x}")).collect();
                return Err(BtfError::NotBtf {
                    found: found.join(" "),
                });
            }
        }
        if bytes.len() < 24 {
            return Err(short("the header", 24));
        }
        if bytes[2] != 1 {
            return Err(BtfError::Version(bytes[2]));
        }
        let word = |at: usize| word(bytes, at).unwrap_or(0) as usize;
        let section = |what, offset: usize, len: usize| {
            let start = word(4).checked_add(offset);
            let end = start
                .and_then(|start| start.checked_add(len))
                .unwrap_or(usize::MAX);
            bytes
                .get(start.unwrap_or(usize::MAX)..end)
                .ok_or_else(|| short(what, end))
        };
        Ok(Header {
            types: section("the type section", word(8), word(12))?,
            strings: section("the string section", word(16), word(20))?,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
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

    fn one(&mut self, strings: &[u8]) -> Result<(String, Type), String> {
        let name = string(strings, self.next()?)?;
        let info = self.next()?;
        let size_or_type = self.next()?;
        let vlen = (info & 0xffff) as usize;
        let kind_flag = info >> 31 == 1;
        let ty = match (info >> 24 & 0x1f) as u8 {
            kind::INT => {
                self.skip(1)?;
                Type::Scalar { size: size_or_type }
            }
            kind::FLOAT => Type::Scalar { size: size_or_type },
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
                let mut fields = Vec::with_capacity(vlen);
                for _ in 0..vlen {
                    let name = string(strings, self.next()?)?;
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
                let mut params = Vec::with_capacity(vlen);
                for _ in 0..vlen {
                    params.push((string(strings, self.next()?)?, self.next()?));
                }
                Type::FuncProto {
                    ret: size_or_type,
                    params,
                }
            }
            kind::FWD | kind::FUNC => Type::Other,
            kind::VAR | kind::DECL_TAG => {
                self.skip(1)?;
                Type::Other
            }
            kind::DATASEC => {
                self.skip(3 * vlen)?;
                Type::Other
            }
            other => return Err(format!("kind {other}, expected 1 to {}", kind::ENUM64)),
        };
        Ok((name, ty))
    }
}

fn string(strings: &[u8], offset: u32) -> Result<String, String> {
    let rest = strings
        .get(offset as usize..)
        .ok_or_else(|| format!("its name is at {offset}, beyond the strings"))?;
    let end = rest
        .iter()
        .position(|&b| b == 0)
        .ok_or("its name has no end")?;
    Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
}
