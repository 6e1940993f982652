//! Builds what the VM runs, below one cache folder:
//!
//! ```text
//! download/          the source package
//! source/VERSION/    unpacked, never changed
//! trees/BASE/SERIES/ hard links to it, patched; build/, build-debug/ ... inside
//! vm/BASE/SERIES/    libbpf, bpftool; programs/, programs-debug/ ...
//! pahole/            a newer one than the machine's, with its own libraries
//! ccache/            shared by all
//! ```
//!
//! A build directory inside its tree makes kbuild use relative paths, so ccache
//! answers for every series. Trees are changed file by file: an interrupted or
//! outdated build goes on where it can.

use crate::apt::Apt;
use crate::error::{At, Error, Result};
use crate::key::{Key, is_current, once, set_current};
use crate::run::{output, run};
use crate::series::{Base, Series, lab_root};
use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CLANG: &str = "clang-19";

/// pahole of Debian 13 and every library that it loads.
const PAHOLE_PACKAGES: [&str; 9] = [
    "pahole",
    "libbpf1",
    "libc6",
    "libdw1t64",
    "libelf1t64",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "libzstd1",
];

pub struct Lab {
    pub cache: PathBuf,
}

/// How much of a series is in a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// the patch of this number, without the others
    Alone(u32),
    /// what `check` has applied so far
    Steps,
}

/// A tree of sources: a series, or a part of it, on its base.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Patched {
    pub base: Base,
    pub series: Series,
    pub part: Part,
}

impl Patched {
    pub fn stock(base: Base) -> Self {
        Patched {
            base,
            series: Series::Stock,
            part: Part::Whole,
        }
    }

    /// All single patches share a tree: between two of them little is built again.
    fn folder(self) -> PathBuf {
        let part = match self.part {
            Part::Whole => "",
            Part::Alone(_) => "-alone",
            Part::Steps => "-check",
        };
        PathBuf::from(self.base.name()).join(format!("{}{part}", self.series))
    }

    fn patches(self) -> Result<Vec<PathBuf>> {
        let mut patches = self.series.patches(self.base)?;
        if let Part::Alone(number) = self.part {
            let prefix = format!("{number:04}-");
            patches.retain(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            });
            if patches.is_empty() {
                return Err(Error::Other(format!(
                    "{} has no patch {prefix}*.patch for {}",
                    self.series, self.base
                )));
            }
        }
        Ok(patches)
    }
}

/// One kernel: a tree, the compiler, and with or without the debug options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flavour {
    pub patched: Patched,
    pub debug: bool,
    pub clang: bool,
}

impl Flavour {
    fn suffix(self) -> String {
        let mut suffix = String::new();
        for (is, text) in [(self.debug, "-debug"), (self.clang, "-clang")] {
            if is {
                suffix += text;
            }
        }
        suffix
    }

    pub fn title(self) -> String {
        let Patched { base, series, part } = self.patched;
        let alone = match part {
            Part::Alone(number) => format!("-{number:04}"),
            Part::Whole | Part::Steps => String::new(),
        };
        format!("{base}-{series}{alone}{}", self.suffix())
    }

    fn compiler(self) -> &'static str {
        if self.clang { CLANG } else { "gcc" }
    }
}

/// What a boot needs.
pub struct Built {
    pub kernel: PathBuf,
    pub version: String,
    /// init, vmtest, modules, bpftool: copied to /lab in the VM
    pub programs: PathBuf,
    /// whether the test modules among them fit the kernel
    pub modules: bool,
}

impl Lab {
    pub fn new(cache: Option<PathBuf>) -> Result<Self> {
        let cache = cache
            .or_else(|| {
                Some(PathBuf::from(std::env::var_os("XDG_CACHE_HOME")?).join("struct-ops-lab"))
            })
            .or_else(|| {
                Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/struct-ops-lab"))
            })
            .ok_or_else(|| Error::Other("no HOME: say where with --cache DIR".into()))?;
        fs::create_dir_all(&cache).at(&cache)?;
        let cache = cache.canonicalize().at(&cache)?;
        Ok(Lab { cache })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.cache.join("log").join(name)
    }

    pub fn tree(&self, patched: Patched) -> PathBuf {
        self.cache.join("trees").join(patched.folder())
    }

    /// The build directory, inside the tree.
    pub fn output(&self, flavour: Flavour) -> PathBuf {
        self.tree(flavour.patched)
            .join(format!("build{}", flavour.suffix()))
    }

    /// Where libbpf, bpftool and the programs of a tree are built.
    fn vm(&self, patched: Patched) -> PathBuf {
        self.cache.join("vm").join(patched.folder())
    }

    /// `make` of a kernel: with the compiler of the flavour and a pahole that is
    /// new enough for the base.
    pub fn kernel_make(&self, flavour: Flavour) -> Result<Command> {
        let mut make = self.make(&self.tree(flavour.patched));
        if flavour.clang {
            make.arg(format!("CC=ccache {CLANG}"));
        }
        if let Some(pahole) = self.pahole(flavour.patched.base)? {
            make.arg(format!("PAHOLE={}", pahole.display()));
        }
        make.arg(out_arg(&self.output(flavour)));
        Ok(make)
    }

    /// `make` of kbuild, with ccache and without anything that changes by itself.
    pub fn make(&self, tree: &Path) -> Command {
        let mut make = Command::new("make");
        make.current_dir(tree)
            // one more than cores: the odd script or link waits for the disk
            .arg(format!(
                "-j{}",
                std::thread::available_parallelism().map_or(2, usize::from) + 1
            ))
            .args(["CC=ccache gcc", "HOSTCC=ccache gcc"])
            .env("CCACHE_DIR", self.cache.join("ccache"))
            .env("CCACHE_BASEDIR", &self.cache)
            .env("CCACHE_NOHASHDIR", "1")
            // dependencies from the compiler: no second run of the preprocessor
            .env("CCACHE_DEPEND", "1")
            .env("CCACHE_MAXSIZE", "6G")
            .env("CCACHE_SLOPPINESS", "time_macros")
            .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
            .env("KBUILD_BUILD_USER", "lab")
            .env("KBUILD_BUILD_HOST", "lab")
            .env_remove("MAKEFLAGS");
        make
    }

    /// `make` of libbpf or bpftool; no libraries of LLVM for the latter, whatever its feature test thinks of a
    /// machine that has a part of them.
    pub fn make_tool(&self, dir: &Path, output: &Path) -> Command {
        let mut make = self.make(dir);
        make.arg(format!("OUTPUT={}/", output.display())).args([
            format!("CLANG={CLANG}"),
            "LLVM_CONFIG=/bin/false".into(),
            "feature-llvm=0".into(),
        ]);
        make
    }

    /// apt where the base's source is found: the machine's own, or with other suites.
    fn apt(&self, base: Base, tool: &str) -> Result<Command> {
        match base {
            Base::V6_12 => Ok(Command::new(tool)),
            Base::V7_3 => Ok(Apt::new(self)?.command(tool)),
        }
    }

    /// The version that apt offers, or the one that is here if apt has none.
    fn source_version(&self, base: Base) -> Result<String> {
        let package = base.source_package();
        let policy = self
            .apt(base, "apt-cache")
            .and_then(|mut apt| output(apt.args(["policy", &package]).env("LC_ALL", "C")));
        if let Ok(policy) = &policy
            && let Some(version) = candidate(policy)
        {
            return Ok(version);
        }
        let dir = self.cache.join("source");
        let here = fs::read_dir(&dir).ok().and_then(|mut entries| {
            entries.find_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                name.starts_with(&format!("{base}.")).then_some(name)
            })
        });
        match (here, policy) {
            (Some(version), _) => Ok(version),
            (None, Err(err)) => Err(err),
            (None, Ok(_)) => Err(Error::Unavailable(format!(
                "apt offers no {package}: run `apt-get update`, or add a Debian suite that has it"
            ))),
        }
    }

    /// Downloads and unpacks the source; its version and folder.
    pub fn source(&self, base: Base) -> Result<(String, PathBuf)> {
        let version = self.source_version(base)?;
        let dir = self.cache.join("source").join(&version);
        if dir.exists() {
            return Ok((version, dir));
        }
        let deb = self.download(base, &version)?;
        let package = base.source_package();
        let unpacked = self.cache.join("source.new");
        let script = "rm -rf \"$2\" && mkdir -p \"$2\" && \
             dpkg-deb --fsys-tarfile \"$1\" | tar -xO \"./usr/src/$3.tar.xz\" | \
             xz -dc | tar -C \"$2\" -x";
        run(
            "unpack the source",
            Command::new("bash")
                .args(["-o", "pipefail", "-ec", script, "unpack"])
                .arg(&deb)
                .arg(&unpacked)
                .arg(&package),
            &self.log("unpack"),
        )?;
        fs::create_dir_all(self.cache.join("source")).at(&self.cache)?;
        fs::rename(unpacked.join(&package), &dir).at(&dir)?;
        fs::remove_dir_all(&unpacked).at(&unpacked)?;
        Ok((version, dir))
    }

    /// The source package. A file with its final name is complete.
    fn download(&self, base: Base, version: &str) -> Result<PathBuf> {
        let dir = self.cache.join("download");
        let package = base.source_package();
        let deb = dir.join(format!("{package}_{version}.deb"));
        if deb.exists() {
            return Ok(deb);
        }
        let new = dir.join("new");
        if new.exists() {
            fs::remove_dir_all(&new).at(&new)?;
        }
        fs::create_dir_all(&new).at(&new)?;
        run(
            "download the source",
            self.apt(base, "apt-get")?
                .args(["-q", "download", &format!("{package}={version}")])
                .current_dir(&new),
            &self.log("download"),
        )
        .map_err(|err| Error::Unavailable(err.to_string()))?;
        let file = fs::read_dir(&new)
            .at(&new)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "deb"))
            .ok_or_else(|| Error::Other(format!("apt-get left no package in {}", new.display())))?;
        fs::rename(&file, &deb).at(&file)?;
        Ok(deb)
    }

    /// A tree with the given patches: hard links, so the source costs no space.
    /// `patch` replaces files instead of writing into them.
    pub fn patched_tree(&self, source: &Path, patches: &[PathBuf], tree: &Path) -> Result<()> {
        let new = beside(tree, "new");
        if new.exists() {
            fs::remove_dir_all(&new).at(&new)?;
        }
        if let Some(dir) = tree.parent() {
            fs::create_dir_all(dir).at(dir)?;
        }
        run(
            "copy the source",
            Command::new("cp").arg("-al").arg(source).arg(&new),
            &self.log("copy"),
        )?;
        for file in patches {
            apply(&new, file)?;
        }
        if !tree.exists() {
            return fs::rename(&new, tree).at(tree);
        }
        // files that do not differ keep their time, make builds the others only
        run(
            "update the tree",
            Command::new("rsync")
                .args([
                    "-rlpc",
                    "--delete",
                    "--exclude=/build",
                    "--exclude=/build-*",
                ])
                .arg(format!("{}/", new.display()))
                .arg(tree),
            &self.log("rsync"),
        )?;
        fs::remove_dir_all(&new).at(&new)
    }

    /// The tree of a series, and the key of its content.
    pub fn prepare_tree(&self, patched: Patched) -> Result<String> {
        let patches = patched.patches()?;
        let (version, source) = self.source(patched.base)?;
        let mut key = Key::default().text("source", &version);
        for file in &patches {
            key = key.file(file)?;
        }
        let key = key.finish();
        let tree = self.tree(patched);
        let stamp = beside(&tree, "stamp");
        once(&stamp, &key, || self.patched_tree(&source, &patches, &tree))?;
        Ok(key)
    }

    /// A pahole for the base, if the machine's is too old: Debian 13's, run with the
    /// libraries that it was built for, so nothing of the machine is changed.
    pub fn pahole(&self, base: Base) -> Result<Option<PathBuf>> {
        let newest_that_fails = match base {
            Base::V6_12 => return Ok(None),
            // Documentation/process/changes.rst wants 1.26
            Base::V7_3 => (1, 25),
        };
        if pahole_version(&tools::version("pahole")) > Some(newest_that_fails) {
            return Ok(None);
        }
        let dir = self.cache.join("pahole");
        let wrapper = dir.join("bin/pahole");
        if wrapper.exists() {
            return Ok(Some(wrapper));
        }
        let new = beside(&dir, "new");
        if new.exists() {
            fs::remove_dir_all(&new).at(&new)?;
        }
        for part in ["root", "bin"] {
            fs::create_dir_all(new.join(part)).at(&new)?;
        }
        run(
            "download a newer pahole",
            Apt::new(self)?
                .command("apt-get")
                .args(["-t", "trixie", "download"])
                .args(PAHOLE_PACKAGES)
                .current_dir(&new),
            &self.log("pahole"),
        )
        .map_err(|err| Error::Unavailable(err.to_string()))?;
        let script = "for deb in *.deb; do dpkg-deb -x \"$deb\" root; rm \"$deb\"; done; \
             lib=\"$1/root/usr/lib/x86_64-linux-gnu\"; \
             printf '#!/bin/sh\\nexec %s --library-path %s %s \"$@\"\\n' \
             \"$lib/ld-linux-x86-64.so.2\" \"$lib\" \"$1/root/usr/bin/pahole\" > bin/pahole; \
             chmod +x bin/pahole";
        run(
            "unpack it",
            Command::new("sh")
                .args(["-ec", script, "unpack"])
                .arg(&dir)
                .current_dir(&new),
            &self.log("pahole"),
        )?;
        fs::rename(&new, &dir).at(&dir)?;
        Ok(Some(wrapper))
    }

    pub fn config(base: Base, debug: bool) -> Result<String> {
        let dir = lab_root().join("config");
        let mut config = String::new();
        let of_base = match base {
            Base::V6_12 => None,
            Base::V7_3 => Some("kernel-7.3.config"),
        };
        let names = [
            Some("kernel.config"),
            of_base,
            debug.then_some("debug.config"),
        ];
        for name in names.into_iter().flatten() {
            let path = dir.join(name);
            config += &fs::read_to_string(&path).at(&path)?;
        }
        Ok(config)
    }

    /// Configures a build directory; it is left alone if the config is the same.
    pub fn configure(&self, make: &mut Command, flavour: Flavour) -> Result<()> {
        let output = &self.output(flavour);
        let config = Self::config(flavour.patched.base, flavour.debug)?;
        let stamp = output.join("lab.config");
        if is_current(&stamp, &config) && output.join(".config").exists() {
            return Ok(());
        }
        fs::create_dir_all(output).at(output)?;
        set_current(&stamp, &config)?;
        let old = output.join(".config");
        if old.exists() {
            fs::remove_file(&old).at(&old)?;
        }
        run(
            "configure",
            make.arg(format!("KCONFIG_ALLCONFIG={}", stamp.display()))
                .arg("allnoconfig"),
            &self.log("configure"),
        )
    }

    /// Kernel, modules, libbpf, bpftool and test programs of one flavour.
    pub fn build(&self, flavour: Flavour) -> Result<Built> {
        tools::require_build()?;
        let title = flavour.title();
        let tree_key = self.prepare_tree(flavour.patched)?;
        let pahole = self.pahole(flavour.patched.base)?;
        let pahole = pahole.map_or("pahole".into(), |path| path.display().to_string());
        let output = self.output(flavour);

        let key = Key::default()
            .text("tree", &tree_key)
            .text(
                "config",
                &Self::config(flavour.patched.base, flavour.debug)?,
            )
            .text("compiler", &tools::version(flavour.compiler()))
            .text("ld", &tools::version("ld"))
            .text("pahole", &tools::version(&pahole))
            .finish();
        let stamp = output.join("lab.stamp");
        once(&stamp, &key, || {
            self.configure(&mut self.kernel_make(flavour)?, flavour)?;
            run(
                &format!("{title}: kernel"),
                self.kernel_make(flavour)?.args(["bzImage", "modules"]),
                &self.log(&format!("{title}.kernel")),
            )
        })?;

        let programs = self
            .vm(flavour.patched)
            .join(format!("programs{}", flavour.suffix()));
        let key = Key::default()
            .text("kernel", &key)
            .text("clang", &tools::version(CLANG))
            .dir(&lab_root().join("vm"))?
            .finish();
        let stamp = programs.join("lab.stamp");
        fs::create_dir_all(&programs).at(&programs)?;
        once(&stamp, &key, || {
            self.build_tools(flavour.patched, &tree_key)?;
            self.build_programs(flavour, &programs)
        })?;

        let release = output.join("include/config/kernel.release");
        Ok(Built {
            kernel: output.join("arch/x86/boot/bzImage"),
            version: fs::read_to_string(&release).at(&release)?.trim().to_owned(),
            programs,
            modules: true,
        })
    }

    /// libbpf and bpftool of the tree, static: the VM has no libraries.
    fn build_tools(&self, patched: Patched, tree_key: &str) -> Result<()> {
        let dir = self.vm(patched);
        let title = format!("{}-{}", patched.base, patched.series);
        let tree = self.tree(patched);
        let libbpf = dir.join("libbpf");
        let bpftool = dir.join("bpftool");
        for dir in [&libbpf, &bpftool] {
            fs::create_dir_all(dir).at(dir)?;
        }
        once(&dir.join("lab.stamp"), tree_key, || {
            run(
                &format!("{title}: libbpf"),
                self.make_tool(&tree.join("tools/lib/bpf"), &libbpf)
                    .arg(format!("DESTDIR={}", libbpf.display()))
                    .args(["prefix=", "libdir=/lib", "all", "install_headers"]),
                &self.log(&format!("{title}.libbpf")),
            )?;
            run(
                &format!("{title}: bpftool"),
                self.make_tool(&tree.join("tools/bpf/bpftool"), &bpftool)
                    .arg("EXTRA_LDFLAGS=-static")
                    .arg(bpftool.join("bpftool")),
                &self.log(&format!("{title}.bpftool")),
            )
        })
    }

    /// Modules, skeletons and the programs that run in the VM.
    fn build_programs(&self, flavour: Flavour, programs: &Path) -> Result<()> {
        let title = flavour.title();
        let tree = self.tree(flavour.patched);
        let output = self.output(flavour);
        let sources = lab_root().join("vm");

        // kbuild writes beside the sources of a module, so they are copied
        // the folder of the test module has two names
        let selftests = tree.join("tools/testing/selftests/bpf");
        let testmod = ["test_kmods", "bpf_testmod"]
            .map(|name| selftests.join(name))
            .into_iter()
            .find(|dir| dir.join("bpf_testmod.c").exists())
            .ok_or_else(|| Error::Other(format!("no bpf_testmod in {}", selftests.display())))?;
        for (name, from) in [
            ("lab_ops", sources.join("module")),
            ("bpf_testmod", testmod),
        ] {
            let work = programs.join(format!("{name}.build"));
            copy_files(&from, &work)?;
            // the one module of several
            let kbuild = work.join("Kbuild");
            let text = format!("obj-m := {name}.o\nCFLAGS_{name}.o := -I$(src)\n");
            fs::write(&kbuild, text).at(&kbuild)?;
            run(
                &format!("{title}: {name}.ko"),
                self.kernel_make(flavour)?
                    .arg(format!("M={}", work.display()))
                    .arg("modules"),
                &self.log(&format!("{title}.{name}")),
            )?;
            let module = format!("{name}.ko");
            fs::copy(work.join(&module), programs.join(&module)).at(&module)?;
        }

        let vmlinux = output.join("vmlinux");
        run(
            &format!("{title}: test programs"),
            &mut self.vm_make(flavour.patched, "Makefile", &vmlinux, programs),
            &self.log(&format!("{title}.programs")),
        )?;

        let selftests = programs.join("selftests");
        fs::create_dir_all(&selftests).at(&selftests)?;
        fs::copy(programs.join("vmlinux.h"), selftests.join("vmlinux.h")).at(&selftests)?;
        run(
            &format!("{title}: selftests"),
            &mut self.vm_make(flavour.patched, "selftests.mk", &vmlinux, &selftests),
            &self.log(&format!("{title}.selftests")),
        )?;
        for name in ["test_progs", "hid_bpf"] {
            fs::copy(selftests.join(name), programs.join(name)).at(&selftests)?;
        }
        Ok(())
    }

    /// What runs in the VM with a kernel that was not built here: made from the
    /// kernel's own BTF and the stock tree's libbpf. Test modules cannot be built.
    pub fn build_for_image(&self, package: &str, kernel: PathBuf) -> Result<Built> {
        tools::require_build()?;
        let stock = Patched::stock(Base::V6_12);
        let tree_key = self.prepare_tree(stock)?;
        let programs = self.vm(stock).join(format!("programs-{package}"));
        let key = Key::default()
            .text("kernel", package)
            .text("tree", &tree_key)
            .text("clang", &tools::version(CLANG))
            .dir(&lab_root().join("vm"))?
            .finish();
        let stamp = programs.join("lab.stamp");
        fs::create_dir_all(&programs).at(&programs)?;
        once(&stamp, &key, || {
            self.build_tools(stock, &tree_key)?;
            let vmlinux = programs.join("vmlinux");
            run(
                &format!("{package}: extract vmlinux"),
                Command::new("sh")
                    .args(["-ec", "sh \"$1\" \"$2\" > \"$3\"", "extract"])
                    .arg(self.tree(stock).join("scripts/extract-vmlinux"))
                    .arg(&kernel)
                    .arg(&vmlinux),
                &self.log("image.vmlinux"),
            )?;
            run(
                &format!("{package}: test programs"),
                &mut self.vm_make(stock, "Makefile", &vmlinux, &programs),
                &self.log("image.programs"),
            )
        })?;
        Ok(Built {
            kernel,
            version: package.to_owned(),
            programs,
            modules: false,
        })
    }

    /// `make` of one of the makefiles in `vm/`, for the kernel that vmlinux is of.
    fn vm_make(&self, patched: Patched, makefile: &str, vmlinux: &Path, folder: &Path) -> Command {
        let sources = lab_root().join("vm");
        let tree = self.tree(patched);
        let dir = self.vm(patched);
        let mut make = Command::new("make");
        make.arg("-f")
            .arg(sources.join(makefile))
            .arg("-C")
            .arg(folder);
        for (name, path) in [
            ("SOURCES", sources),
            ("VMLINUX", vmlinux.to_owned()),
            ("LIBBPF", dir.join("libbpf")),
            ("BPFTOOL", dir.join("bpftool/bpftool")),
            ("UAPI", tree.join("tools/include/uapi")),
            ("TREE", tree),
        ] {
            make.arg(format!("{name}={}", path.display()));
        }
        make.arg(format!("CLANG={CLANG}"));
        if matches!(patched.series, Series::Rfc | Series::LinkOwned) {
            make.arg("DEFINES=-DLAB_HAS_COOKIE");
        }
        make
    }
}

/// "trees/6.12/stock" and "stamp": "trees/6.12/stock.stamp". The folder's own name
/// may have a dot, so what follows its last one is not the kind of the file.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

/// "v1.24"
fn pahole_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().strip_prefix('v')?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `O=` for a build directory inside the tree, relative so that kbuild's paths are.
pub fn out_arg(output: &Path) -> String {
    format!(
        "O={}",
        output.file_name().unwrap_or_default().to_string_lossy()
    )
}

/// Applies one patch, with no fuzz: context that moved is an error to look at.
pub fn apply(tree: &Path, file: &Path) -> Result<()> {
    patch(tree, file, &[])
}

/// Takes back a patch that has been applied.
pub fn take_back(tree: &Path, file: &Path) -> Result<()> {
    patch(tree, file, &["-R"])
}

fn patch(tree: &Path, file: &Path, more: &[&str]) -> Result<()> {
    output(
        Command::new("patch")
            .args(["-s", "-p1", "-F0", "--no-backup-if-mismatch"])
            .args(more)
            .arg("-d")
            .arg(tree)
            .arg("-i")
            .arg(file),
    )
    .map_err(|err| Error::Other(format!("{} does not apply: {err}", file.display())))?;
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).at(to)?;
    for entry in from.read_dir().at(from)? {
        let path = entry.at(from)?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, to.join(name)).at(&path)?;
        }
    }
    Ok(())
}

/// The candidate of `apt-cache policy`.
fn candidate(policy: &str) -> Option<String> {
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_policy() {
        let policy = "linux-source-6.12:\n  Installed: (none)\n  Candidate: 6.12.117-1~deb12u1\n";
        assert_eq!(candidate(policy).as_deref(), Some("6.12.117-1~deb12u1"));
        assert_eq!(candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn versions_of_pahole() {
        assert_eq!(pahole_version("v1.24"), Some((1, 24)));
        assert!(pahole_version("v1.9") < pahole_version("v1.26"));
        // a tool that is missing has no version, and that is older than any
        assert!(pahole_version("") < pahole_version("v0.0"));
    }

    #[test]
    fn debug_adds_to_the_config() {
        let plain = Lab::config(Base::V7_3, false).unwrap();
        let debug = Lab::config(Base::V7_3, true).unwrap();
        assert!(debug.starts_with(&plain));
        assert!(debug.contains("CONFIG_KASAN=y") && !plain.contains("CONFIG_KASAN=y"));
    }
}
