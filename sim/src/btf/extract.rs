//! Extracts: a small BTF file with some structs of a large one.
//!
//! Kept are the named structs with their members, the prototypes of function pointers, those of named functions, and
//! the sizes of everything passed by value. What pointers point to becomes a forward declaration of that name, or void. The result is BTF
//! like any other; `bpftool btf dump file` reads it.

use std::collections::HashMap;

use super::{Btf, Type, kind};

/// A file being written.
#[derive(Debug, Default)]
pub struct Extract {
    types: Vec<u8>,
    strings: Vec<u8>,
    offsets: HashMap<String, u32>,
    count: u32,
    scalars: HashMap<(u32, String), u32>,
    pointers: HashMap<String, u32>,
    opaque: HashMap<(u32, String), u32>,
}

impl Extract {
    /// An empty one.
    pub fn new() -> Self {
        Extract {
            strings: vec![0],
            ..Extract::default()
        }
    }

    /// Adds a struct with its members; `false` if the source has none of that name.
    pub fn add(&mut self, from: &Btf, name: &str) -> bool {
        let Some(id) = from.find_struct(name) else {
            return false;
        };
        let (_, Type::Struct { size, fields, .. }) = from.get(id) else {
            return false;
        };
        let fields: Vec<_> = fields
            .iter()
            .map(|f| (f.name.clone(), self.by_value(from, f.ty), f.bit_offset))
            .collect();
        self.struct_type(name, *size, &fields);
        true
    }

    /// Adds a struct by its size alone; `false` if the source has none of that name.
    pub fn add_size(&mut self, from: &Btf, name: &str) -> bool {
        match from.find_struct(name).and_then(|id| from.size(id)) {
            Some(size) => {
                self.struct_type(name, size as u32, &[]);
                true
            }
            None => false,
        }
    }

    /// Adds a function with its prototype; `false` if the source has none of that name.
    pub fn add_func(&mut self, from: &Btf, name: &str) -> bool {
        let Some((_, Type::Func(proto))) = from.find_func(name).map(|id| from.get(id)) else {
            return false;
        };
        let (_, Type::FuncProto { ret, params }) = from.get(*proto) else {
            return false;
        };
        let proto = self.proto(from, *ret, params);
        self.entry(name, kind::FUNC, 0, proto, &[]);
        true
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        let mut file = vec![0x9f, 0xeb, 1, 0];
        let words = [
            24,
            0,
            self.types.len(),
            self.types.len(),
            self.strings.len(),
        ];
        file.extend(words.iter().flat_map(|&w| (w as u32).to_le_bytes()));
        file.extend(self.types);
        file.extend(self.strings);
        file
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let next = self.strings.len() as u32;
        let offset = *self.offsets.entry(text.to_owned()).or_insert(next);
        if offset == next {
            self.strings.extend(text.as_bytes());
            self.strings.push(0);
        }
        offset
    }

    fn entry(&mut self, name: &str, kind: u8, vlen: usize, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = self.string(name);
        let info = u32::from(kind) << 24 | vlen as u32;
        for word in [name, info, size_or_type].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    fn struct_type(&mut self, name: &str, size: u32, fields: &[(String, u32, u32)]) -> u32 {
        let rest: Vec<u32> = fields
            .iter()
            .flat_map(|(name, ty, offset)| [self.string(name), *ty, *offset])
            .collect();
        self.entry(name, kind::STRUCT, fields.len(), size, &rest)
    }

    /// What a member or an argument is, as far as its size goes.
    fn by_value(&mut self, from: &Btf, id: u32) -> u32 {
        let Some((id, ty)) = from.skip(id) else {
            return 0;
        };
        let name = from.get(id).0.to_owned();
        match ty {
            Type::Scalar { size } => self.scalar(*size, &name),
            Type::Float { size } => self.entry(&name, kind::FLOAT, 0, *size, &[]),
            Type::Ptr(to) => match from.skip(*to) {
                Some((_, Type::FuncProto { ret, params })) => {
                    let proto = self.proto(from, *ret, params);
                    self.entry("", kind::PTR, 0, proto, &[])
                }
                Some((id, Type::Struct { union: false, .. })) => self.pointer(from.get(id).0),
                _ => self.pointer(""),
            },
            Type::Array { of, len } => {
                let of = self.by_value(from, *of);
                let index = self.scalar(4, "unsigned int");
                self.entry("", kind::ARRAY, 0, 0, &[of, index, *len])
            }
            Type::Struct { size, .. } => {
                let key = (*size, name);
                match self.opaque.get(&key) {
                    Some(&known) => known,
                    None => {
                        let new = self.struct_type(&key.1, *size, &[]);
                        *self.opaque.entry(key).or_insert(new)
                    }
                }
            }
            Type::Alias(_) | Type::FuncProto { .. } | Type::Func(_) | Type::Other => 0,
        }
    }

    fn proto(&mut self, from: &Btf, ret: u32, params: &[(String, u32)]) -> u32 {
        let ret = self.by_value(from, ret);
        let rest: Vec<u32> = params
            .iter()
            .flat_map(|(name, ty)| [self.string(name), self.by_value(from, *ty)])
            .collect();
        self.entry("", kind::FUNC_PROTO, params.len(), ret, &rest)
    }

    fn scalar(&mut self, size: u32, name: &str) -> u32 {
        let name = if name.is_empty() { "int" } else { name };
        let key = (size, name.to_owned());
        if let Some(&known) = self.scalars.get(&key) {
            return known;
        }
        let new = self.entry(name, kind::INT, 0, size, &[8 * size]);
        *self.scalars.entry(key).or_insert(new)
    }

    fn pointer(&mut self, to: &str) -> u32 {
        if let Some(&known) = self.pointers.get(to) {
            return known;
        }
        let pointee = if to.is_empty() {
            0
        } else {
            self.entry(to, kind::FWD, 0, 0, &[])
        };
        let new = self.entry("", kind::PTR, 0, pointee, &[]);
        *self.pointers.entry(to.to_owned()).or_insert(new)
    }
}
