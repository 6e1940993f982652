//! Builds what the VM runs, below one cache folder:
//!
//! ```text
//! download/          the source package
//! source/VERSION/    unpacked, never changed
//! trees/SERIES/      hard links to it, patched; build/ and build-debug/ inside
//! vm/SERIES/         libbpf, bpftool; programs/ and programs-debug/
//! ccache/            shared by all
//! ```
//!
//! A build directory inside its tree makes kbuild use relative paths, so ccache
//! answers for every series. Trees are changed file by file: an interrupted or
//! outdated build goes on where it can.

use crate::error::{At, Error, Result};
use crate::key::{Key, is_current, set_current};
use crate::run::{output, run};
use crate::series::{Series, lab_root};
use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE_PACKAGE: &str = "linux-source-6.12";
const CLANG: &str = "clang-19";

pub struct Lab {
    pub cache: PathBuf,
}

/// One kernel: a series with or without the debug options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flavour {
    pub series: Series,
    pub debug: bool,
}

impl Flavour {
    fn suffix(self) -> &'static str {
        if self.debug { "-debug" } else { "" }
    }

    pub fn title(self) -> String {
        format!("{}{}", self.series, self.suffix())
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

    pub fn tree(&self, series: Series) -> PathBuf {
        self.cache.join("trees").join(series.name())
    }

    /// The build directory, inside the tree.
    pub fn output(&self, flavour: Flavour) -> PathBuf {
        self.tree(flavour.series)
            .join(format!("build{}", flavour.suffix()))
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

    /// The version that apt offers, or the one that is here if apt has none.
    fn source_version(&self) -> Result<String> {
        let policy = output(
            Command::new("apt-cache")
                .args(["policy", SOURCE_PACKAGE])
                .env("LC_ALL", "C"),
        )?;
        if let Some(version) = candidate(&policy) {
            return Ok(version);
        }
        let dir = self.cache.join("source");
        fs::read_dir(&dir)
            .ok()
            .and_then(|mut entries| entries.find_map(|entry| entry.ok()?.file_name().into_string().ok()))
            .ok_or_else(|| {
                Error::Unavailable(format!(
                    "apt offers no {SOURCE_PACKAGE}: run `apt-get update`, or add a Debian suite that has it"
                ))
            })
    }

    /// Downloads and unpacks the source; its version and folder.
    pub fn source(&self) -> Result<(String, PathBuf)> {
        let version = self.source_version()?;
        let dir = self.cache.join("source").join(&version);
        if dir.exists() {
            return Ok((version, dir));
        }
        let deb = self.download(&version)?;
        let unpacked = self.cache.join("source.new");
        let script = "rm -rf \"$2\" && mkdir -p \"$2\" && \
             dpkg-deb --fsys-tarfile \"$1\" | tar -xO ./usr/src/linux-source-6.12.tar.xz | \
             xz -dc | tar -C \"$2\" -x";
        run(
            "unpack the source",
            Command::new("bash")
                .args(["-o", "pipefail", "-ec", script, "unpack"])
                .arg(&deb)
                .arg(&unpacked),
            &self.log("unpack"),
        )?;
        fs::create_dir_all(self.cache.join("source")).at(&self.cache)?;
        fs::rename(unpacked.join("linux-source-6.12"), &dir).at(&dir)?;
        fs::remove_dir_all(&unpacked).at(&unpacked)?;
        Ok((version, dir))
    }

    /// The source package. A file with its final name is complete.
    fn download(&self, version: &str) -> Result<PathBuf> {
        let dir = self.cache.join("download");
        let deb = dir.join(format!("{SOURCE_PACKAGE}_{version}.deb"));
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
            Command::new("apt-get")
                .args(["-q", "download", &format!("{SOURCE_PACKAGE}={version}")])
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
        let new = tree.with_extension("new");
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
                    "--exclude=/build-debug",
                ])
                .arg(format!("{}/", new.display()))
                .arg(tree),
            &self.log("rsync"),
        )?;
        fs::remove_dir_all(&new).at(&new)
    }

    /// The tree of a series, and the key of its content.
    pub fn prepare_tree(&self, series: Series) -> Result<String> {
        let (version, source) = self.source()?;
        let patches = series.patches()?;
        let mut key = Key::default().text("source", &version);
        for file in &patches {
            key = key.file(file)?;
        }
        let key = key.finish();
        let stamp = self.tree(series).with_extension("stamp");
        if !is_current(&stamp, &key) {
            self.patched_tree(&source, &patches, &self.tree(series))?;
            set_current(&stamp, &key)?;
        }
        Ok(key)
    }

    pub fn config(debug: bool) -> Result<String> {
        let dir = lab_root().join("config");
        let mut config = String::new();
        for name in ["kernel.config", "debug.config"] {
            if name == "debug.config" && !debug {
                continue;
            }
            let path = dir.join(name);
            config += &fs::read_to_string(&path).at(&path)?;
        }
        Ok(config)
    }

    /// Configures a build directory; it is left alone if the config is the same.
    pub fn configure(&self, tree: &Path, output: &Path, debug: bool) -> Result<()> {
        let config = Self::config(debug)?;
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
            self.make(tree)
                .arg(out_arg(output))
                .arg(format!("KCONFIG_ALLCONFIG={}", stamp.display()))
                .arg("allnoconfig"),
            &self.log("configure"),
        )
    }

    /// Kernel, modules, libbpf, bpftool and test programs of one flavour.
    pub fn build(&self, flavour: Flavour) -> Result<Built> {
        tools::require_build()?;
        let title = flavour.title();
        let tree_key = self.prepare_tree(flavour.series)?;
        let tree = self.tree(flavour.series);
        let output = self.output(flavour);

        let key = Key::default()
            .text("tree", &tree_key)
            .text("config", &Self::config(flavour.debug)?)
            .text("gcc", &tools::version("gcc"))
            .text("ld", &tools::version("ld"))
            .text("pahole", &tools::version("pahole"))
            .finish();
        let stamp = output.join("lab.stamp");
        if !is_current(&stamp, &key) {
            self.configure(&tree, &output, flavour.debug)?;
            run(
                &format!("{title}: kernel"),
                self.make(&tree)
                    .arg(out_arg(&output))
                    .args(["bzImage", "modules"]),
                &self.log(&format!("{title}.kernel")),
            )?;
            set_current(&stamp, &key)?;
        }

        let programs = self
            .cache
            .join("vm")
            .join(flavour.series.name())
            .join(format!("programs{}", flavour.suffix()));
        let key = Key::default()
            .text("kernel", &key)
            .text("clang", &tools::version(CLANG))
            .dir(&lab_root().join("vm"))?
            .finish();
        let stamp = programs.join("lab.stamp");
        if !is_current(&stamp, &key) {
            self.build_tools(flavour.series, &tree_key)?;
            self.build_programs(flavour, &programs)?;
            set_current(&stamp, &key)?;
        }

        let release = output.join("include/config/kernel.release");
        Ok(Built {
            kernel: output.join("arch/x86/boot/bzImage"),
            version: fs::read_to_string(&release).at(&release)?.trim().to_owned(),
            programs,
            modules: true,
        })
    }

    /// libbpf and bpftool of the tree, static: the VM has no libraries.
    fn build_tools(&self, series: Series, tree_key: &str) -> Result<()> {
        let dir = self.cache.join("vm").join(series.name());
        let stamp = dir.join("lab.stamp");
        if is_current(&stamp, tree_key) {
            return Ok(());
        }
        let tree = self.tree(series);
        let libbpf = dir.join("libbpf");
        let bpftool = dir.join("bpftool");
        for dir in [&libbpf, &bpftool] {
            fs::create_dir_all(dir).at(dir)?;
        }
        run(
            &format!("{series}: libbpf"),
            self.make_tool(&tree.join("tools/lib/bpf"), &libbpf)
                .arg(format!("DESTDIR={}", libbpf.display()))
                .args(["prefix=", "libdir=/lib", "all", "install_headers"]),
            &self.log(&format!("{series}.libbpf")),
        )?;
        run(
            &format!("{series}: bpftool"),
            self.make_tool(&tree.join("tools/bpf/bpftool"), &bpftool)
                .arg("EXTRA_LDFLAGS=-static")
                .arg(bpftool.join("bpftool")),
            &self.log(&format!("{series}.bpftool")),
        )?;
        set_current(&stamp, tree_key)
    }

    /// Modules, skeletons and the programs that run in the VM.
    fn build_programs(&self, flavour: Flavour, programs: &Path) -> Result<()> {
        let title = flavour.title();
        let tree = self.tree(flavour.series);
        let output = self.output(flavour);
        let sources = lab_root().join("vm");
        fs::create_dir_all(programs).at(programs)?;

        // kbuild writes beside the sources of a module, so they are copied
        for (name, from) in [
            ("lab_ops", sources.join("module")),
            (
                "bpf_testmod",
                tree.join("tools/testing/selftests/bpf/bpf_testmod"),
            ),
        ] {
            let work = programs.join(format!("{name}.build"));
            copy_files(&from, &work)?;
            run(
                &format!("{title}: {name}.ko"),
                self.make(&tree)
                    .arg(out_arg(&output))
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
            &mut self.vm_make(flavour.series, "Makefile", &vmlinux, programs),
            &self.log(&format!("{title}.programs")),
        )?;

        let selftests = programs.join("selftests");
        fs::create_dir_all(&selftests).at(&selftests)?;
        fs::copy(programs.join("vmlinux.h"), selftests.join("vmlinux.h")).at(&selftests)?;
        run(
            &format!("{title}: selftests"),
            &mut self.vm_make(flavour.series, "selftests.mk", &vmlinux, &selftests),
            &self.log(&format!("{title}.selftests")),
        )?;
        fs::copy(selftests.join("test_progs"), programs.join("test_progs")).at(&selftests)?;
        Ok(())
    }

    /// What runs in the VM with a kernel that was not built here: made from the
    /// kernel's own BTF and the stock tree's libbpf. Test modules cannot be built.
    pub fn build_for_image(&self, package: &str, kernel: PathBuf) -> Result<Built> {
        tools::require_build()?;
        let tree_key = self.prepare_tree(Series::Stock)?;
        let programs = self
            .cache
            .join("vm")
            .join(Series::Stock.name())
            .join(format!("programs-{package}"));
        let key = Key::default()
            .text("kernel", package)
            .text("tree", &tree_key)
            .text("clang", &tools::version(CLANG))
            .dir(&lab_root().join("vm"))?
            .finish();
        let stamp = programs.join("lab.stamp");
        if !is_current(&stamp, &key) {
            self.build_tools(Series::Stock, &tree_key)?;
            fs::create_dir_all(&programs).at(&programs)?;
            let vmlinux = programs.join("vmlinux");
            run(
                &format!("{package}: extract vmlinux"),
                Command::new("sh")
                    .args(["-ec", "sh \"$1\" \"$2\" > \"$3\"", "extract"])
                    .arg(self.tree(Series::Stock).join("scripts/extract-vmlinux"))
                    .arg(&kernel)
                    .arg(&vmlinux),
                &self.log("image.vmlinux"),
            )?;
            run(
                &format!("{package}: test programs"),
                &mut self.vm_make(Series::Stock, "Makefile", &vmlinux, &programs),
                &self.log("image.programs"),
            )?;
            set_current(&stamp, &key)?;
        }
        Ok(Built {
            kernel,
            version: package.to_owned(),
            programs,
            modules: false,
        })
    }

    /// `make` of one of the makefiles in `vm/`, for the kernel that vmlinux is of.
    fn vm_make(&self, series: Series, makefile: &str, vmlinux: &Path, folder: &Path) -> Command {
        let sources = lab_root().join("vm");
        let tree = self.tree(series);
        let dir = self.cache.join("vm").join(series.name());
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
        if series != Series::Stock {
            make.arg("DEFINES=-DLAB_HAS_COOKIE");
        }
        make
    }
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
    output(
        Command::new("patch")
            .args(["-s", "-p1", "-F0", "--no-backup-if-mismatch", "-d"])
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
    fn debug_adds_to_the_config() {
        let plain = Lab::config(false).unwrap();
        let debug = Lab::config(true).unwrap();
        assert!(debug.starts_with(&plain));
        assert!(debug.contains("CONFIG_KASAN=y") && !plain.contains("CONFIG_KASAN=y"));
    }
}
