//! `cost`.

use std::path::{Path, PathBuf};

use struct_ops_model::Design;

use super::args::{Format, whole};
use super::output::{document, print, screen};
use super::{Exit, Failure};
use crate::btf::{Btf, BtfError, OpsType};
use crate::cost::generator::Generator;
use crate::cost::{self, CostError, Kernel, kernels};
use crate::input;
use crate::report;
use crate::report::json::cost::{self as json, Missing};
use crate::scenario::{InputError, unknown};
use crate::tramp::{Return, Version};

#[derive(Debug, clap::Args)]
pub(super) struct Cost {
    /// struct_ops types. [default: tcp_congestion_ops, sched_ext_ops, Qdisc_ops, hid_bpf_ops, bpf_dummy_ops]
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Kernels whose types are part of this program. [default: all]
    #[arg(
        long,
        value_name = "VERSION",
        value_delimiter = ',',
        conflicts_with = "btf"
    )]
    pub kernel: Vec<String>,
    /// Take the types from this BTF: /sys/kernel/btf/vmlinux, or .BTF of any vmlinux or module.
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// The kernel's own BTF, if FILE is a module's.
    #[arg(long, value_name = "KERNEL", requires = "btf")]
    pub btf_base: Option<PathBuf>,
    /// Take this version's code generator, whatever the BTF shows: 6.12, 6.19, 7.2 or 7.3.
    #[arg(long, value_name = "VERSION")]
    pub generator: Option<String>,
    /// A preset, or a custom design: PRESET,KEY=VALUE... [default: mainline, rfc, link-owned]
    #[arg(long)]
    pub design: Vec<String>,
    /// How many links. [default: 1, 10, 100, 1000]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = whole(0..=u64::MAX))]
    pub links: Vec<u64>,
    /// A kernel without IBT and without mitigations: no endbr64, no int3.
    #[arg(long)]
    pub plain: bool,
    /// Print the trampoline of a member instead, line by line.
    #[arg(long, value_name = "MEMBER")]
    pub disassemble: Option<String>,
    /// The cookie in it, decimal or 0x...
    #[arg(long, value_name = "N", requires = "disassemble", value_parser = whole(0..=u64::MAX))]
    pub cookie: Option<u64>,
}

/// What attaching costs.
pub(super) fn cost(args: &Cost, format: Format) -> Result<Exit, Failure> {
    let kernels = kernels(args)?;
    match &args.disassemble {
        Some(member) => disassemble(args, &kernels, member, format),
        None => table(args, &kernels, format),
    }
}

pub(super) fn kernels(args: &Cost) -> Result<Vec<Kernel>, Failure> {
    let mut chosen = match &args.btf {
        Some(path) => vec![read(path, args.btf_base.as_deref())?],
        None => {
            let mut names: Vec<&str> = args.kernel.iter().map(String::as_str).collect();
            if names.is_empty() {
                names = kernels::names().to_vec();
            }
            let shipped = names.into_iter().map(|name| match kernels::shipped(name) {
                Some(kernel) => {
                    kernel.map_err(|e| Failure::Bug(format!("shipped BTF of {name}: {e}")))
                }
                None => {
                    let message = unknown("kernel", name, kernels::names());
                    Err(InputError::whole("--kernel", message).into())
                }
            });
            shipped.collect::<Result<_, _>>()?
        }
    };
    if let Some(name) = &args.generator {
        let version = Version::ALL
            .into_iter()
            .find(|version| version.name() == name)
            .ok_or_else(|| {
                let message = unknown("generator", name, Version::ALL.map(Version::name));
                InputError::whole("--generator", message)
            })?;
        for kernel in &mut chosen {
            kernel.generator = (kernel.generator.clone())
                .asked(version)
                .map_err(|why| InputError::whole(&kernel.name, format!("--generator: {why}")))?;
        }
    }
    if args.plain {
        for jit in chosen.iter_mut().filter_map(|k| k.generator.jit.as_mut()) {
            jit.ibt = false;
            jit.ret = Return::Ret;
        }
    }
    Ok(chosen)
}

fn read(path: &Path, base: Option<&Path>) -> Result<Kernel, Failure> {
    let wrong = |path: &Path, why: String| InputError::whole(&path.display().to_string(), why);
    let bytes = |path| input::bytes(path, input::BTF);
    let btf = match base {
        None => Btf::parse(&bytes(path)?).map_err(|e| wrong(path, e.to_string()))?,
        Some(base) => {
            let below = Btf::parse(&bytes(base)?).map_err(|e| wrong(base, e.to_string()))?;
            Btf::parse_split(&bytes(path)?, below).map_err(|e| wrong(path, e.to_string()))?
        }
    };
    let name = path.display().to_string();
    Ok(kernels::of_btf(&name, btf).map_err(|e| wrong(path, e.to_string()))?)
}

fn table(args: &Cost, kernels: &[Kernel], format: Format) -> Result<Exit, Failure> {
    let designs = if args.design.is_empty() {
        vec![Design::mainline(), Design::rfc(), Design::link_owned()]
    } else {
        super::designs(&args.design)?
    };
    for design in &designs {
        let mut written = design.written().into_iter();
        if let Some((key, value)) = written.find(|(key, _)| !cost::memory::CHOICES.contains(key)) {
            let message = format!(
                "the figures of `{design}` would be those without {key}={value}: nothing here asks for {key}"
            );
            return Err(InputError::whole("--design", message).into());
        }
    }
    let links = if args.links.is_empty() {
        &cost::LINKS[..]
    } else {
        &args.links
    };
    let (mut types, mut missing) = (Vec::new(), Vec::new());
    let all = args.types.is_empty();
    let names: Vec<&str> = match all {
        true => cost::TYPES.to_vec(),
        false => args.types.iter().map(String::as_str).collect(),
    };
    for name in names {
        for kernel in kernels {
            match cost::of_type(kernel, name, &designs, links) {
                Ok(cost) => types.push(cost),
                // one of those that not every kernel has
                Err(CostError::Btf(error @ BtfError::Missing { .. }))
                    if cost::TYPES.contains(&name) =>
                {
                    missing.push(Missing {
                        r#type: name.to_owned(),
                        kernel: kernel.name.clone(),
                        reason: error.to_string(),
                    });
                }
                Err(error) => return Err(failure(kernel, error)),
            }
        }
    }
    if types.is_empty()
        && let Some(Missing { kernel, reason, .. }) = missing.first()
    {
        return Err(InputError::whole(kernel, reason.clone()).into());
    }
    match format {
        Format::Text => {
            let mut text = String::new();
            for cost in &types {
                text += &report::cost::text(screen(), cost);
                text.push('\n');
            }
            for Missing { r#type, kernel, .. } in &missing {
                text += &format!("{type} in {kernel}: no such struct_ops type\n");
            }
            if !missing.is_empty() {
                text.push('\n');
            }
            text += &report::cost::generators(screen(), named(kernels));
            text += &report::cost::legend(screen(), &types);
            print(&text)?;
        }
        _ => {
            let generators = kernels.iter().map(json::Generator::of).collect();
            let body = json::Cost::Table {
                types,
                missing,
                generators,
            };
            return document("cost", Exit::Expected, body);
        }
    }
    Ok(Exit::Expected)
}

fn named(kernels: &[Kernel]) -> impl Iterator<Item = (&str, &Generator)> {
    kernels
        .iter()
        .map(|kernel| (kernel.name.as_str(), &kernel.generator))
}

fn failure(kernel: &Kernel, error: CostError) -> Failure {
    InputError::whole(&kernel.name, error.to_string()).into()
}

fn disassemble(
    args: &Cost,
    kernels: &[Kernel],
    wanted: &str,
    format: Format,
) -> Result<Exit, Failure> {
    let names: Vec<&str> = match args.types.is_empty() {
        true => cost::TYPES.to_vec(),
        false => args.types.iter().map(String::as_str).collect(),
    };
    // the newest kernel and the first type that has the member
    let mut refused = None;
    for kernel in kernels.iter().rev() {
        for name in &names {
            let ops = match OpsType::read(&kernel.btf, name) {
                Ok(ops) => ops,
                Err(_) if args.types.is_empty() => continue,
                Err(error) => return Err(failure(kernel, error.into())),
            };
            let model = match cost::member(&ops, wanted) {
                None => continue,
                Some(Err(why)) => {
                    let message = format!("{name}.{wanted} has no trampoline: {why}");
                    refused.get_or_insert(InputError::whole(&kernel.name, message));
                    continue;
                }
                Some(Ok(model)) => model,
            };
            let member = wanted;
            let cookie = args.cookie.unwrap_or(0);
            let Some(jit) = kernel.generator.jit else {
                let why = kernel.generator.why_none();
                let message = format!("no code for {name}.{member}: {why}");
                return Err(InputError::whole(&kernel.name, message).into());
            };
            let code = cost::trampoline(jit, model, cookie).map_err(|error| {
                let member = format!("{name}.{member}");
                failure(kernel, CostError::Trampoline { member, error })
            })?;
            match format {
                Format::Text => print(&report::cost::listing(
                    screen(),
                    (&kernel.name, &kernel.generator),
                    name,
                    member,
                    cookie,
                    &code,
                ))?,
                _ => {
                    let body = json::Cost::Trampoline {
                        r#type: name.to_string(),
                        kernel: kernel.name.clone(),
                        member: member.to_string(),
                        cookie,
                        bytes: code.size(),
                        lines: code.lines(),
                        generator: json::Generator::of(kernel),
                    };
                    return document("cost", Exit::Expected, body);
                }
            }
            return Ok(Exit::Expected);
        }
    }
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    let known = kernels.iter().flat_map(|kernel| {
        names
            .iter()
            .filter_map(|name| OpsType::read(&kernel.btf, name).ok())
    });
    // Kernels share most of them.
    let known: std::collections::BTreeSet<String> = known
        .flat_map(|ops| {
            cost::members(&ops)
                .iter()
                .map(|(m, _)| m.to_string())
                .collect::<Vec<_>>()
        })
        .collect();
    let message = unknown("member", wanted, known.iter().map(String::as_str));
    Err(InputError::whole("--disassemble", message).into())
}
