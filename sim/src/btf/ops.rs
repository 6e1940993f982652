//! A struct_ops type: its members and their function models.
//!
//! Stands for what `bpf_struct_ops_desc_init()` reads from BTF. Whether the subsystem lets a program take a member
//! (`cfi_stubs`, `check_member()`) is not in BTF.

use super::{Btf, BtfError, Type};
use crate::tramp::{FuncModel, MAX_BPF_FUNC_ARGS};

/// A struct that programs can implement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsType {
    /// Its name in the kernel.
    pub name: String,
    /// Its members in order.
    pub members: Vec<Member>,
    /// Size of `struct bpf_struct_ops_NAME`, the map's value.
    pub value_size: usize,
}

/// A member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A function pointer that a trampoline can stand for.
    Func(FuncModel),
    /// A function pointer whose arguments or return value no trampoline passes on, and why.
    Unsupported(String),
    /// Data.
    Data,
}

impl OpsType {
    /// Reads it, or says what is missing.
    pub fn read(btf: &Btf, name: &str) -> Result<Self, BtfError> {
        let missing = || {
            let there = btf.ops_types();
            let hint = match there.is_empty() {
                true => ", nor any other (a module's types are in BTF of its own: --btf FILE --btf-base KERNEL)".to_owned(),
                false => format!("; there are {}", there.join(", ")),
            };
            BtfError::Missing {
                name: format!("struct_ops type `{name}`"),
                hint,
            }
        };
        let id = btf.find_struct(name).ok_or_else(missing)?;
        let value = format!("bpf_struct_ops_{name}");
        let value_id = btf.find_struct(&value).ok_or_else(missing)?;
        let Type::Struct { fields, .. } = btf.get(id).1 else {
            return Err(missing());
        };
        let members = fields
            .iter()
            .map(|field| Member {
                name: field.name.clone(),
                kind: member(btf, field.ty),
            })
            .collect();
        Ok(OpsType {
            name: name.to_owned(),
            members,
            value_size: btf.size(value_id).unwrap_or(0),
        })
    }

    /// Function pointers with their models, in order.
    pub fn funcs(&self) -> impl Iterator<Item = (&str, &FuncModel)> {
        self.members.iter().filter_map(|member| match &member.kind {
            MemberKind::Func(model) => Some((member.name.as_str(), model)),
            _ => None,
        })
    }

    /// Function pointers, whether supported or not (`funcs_cnt` of the map).
    pub fn funcs_cnt(&self) -> usize {
        self.members
            .iter()
            .filter(|member| member.kind != MemberKind::Data)
            .count()
    }
}

/// `btf_distill_func_proto()` for a pointer to a function.
fn member(btf: &Btf, ty: u32) -> MemberKind {
    let Some((_, Type::Ptr(to))) = btf.skip(ty) else {
        return MemberKind::Data;
    };
    let Some((_, Type::FuncProto { ret, params })) = btf.skip(*to) else {
        return MemberKind::Data;
    };
    if params.len() > MAX_BPF_FUNC_ARGS {
        return MemberKind::Unsupported(format!(
            "{} arguments: btf_distill_func_proto() takes at most {MAX_BPF_FUNC_ARGS} (-EINVAL)",
            params.len()
        ));
    }
    let by_value = |id: u32| match btf.skip(id) {
        Some((_, Type::Scalar { .. } | Type::Ptr(_) | Type::Struct { .. })) => btf.size(id),
        _ => None,
    };
    let mut sizes = Vec::new();
    for (index, (name, ty)) in params.iter().enumerate() {
        match by_value(*ty) {
            Some(size) => sizes.push(size),
            None if index + 1 == params.len() && *ty == 0 => {
                return MemberKind::Unsupported(
                    "variable arguments: btf_distill_func_proto() refuses them (-EINVAL)".into(),
                );
            }
            None => {
                return MemberKind::Unsupported(format!(
                    "argument `{name}` is no integer, pointer or struct: btf_distill_func_proto() refuses it (-EINVAL)"
                ));
            }
        }
    }
    let ret = match (*ret, btf.skip(*ret)) {
        (0, _) => 0,
        (_, Some((_, Type::Scalar { .. } | Type::Ptr(_)))) => btf.size(*ret).unwrap_or(0),
        _ => {
            return MemberKind::Unsupported(
                "its return value is no integer or pointer: btf_distill_func_proto() refuses it (-EINVAL)".into(),
            );
        }
    };
    match FuncModel::new(&sizes, ret) {
        Ok(model) => MemberKind::Func(model),
        Err(error) => MemberKind::Unsupported(error.to_string()),
    }
}
