//! Trampolines that run: what the caller passes, the programs and the original function receive; what comes back is
//! what was returned; images are never writable and executable at once.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
// Calling generated code is unsafe by nature: each call says why it may be made.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};

use iced_x86::code_asm::CodeAssembler;
use quickcheck::{Arbitrary, Gen, QuickCheck};
use struct_ops_sim::tramp::image::{Image, MAX_TRAMP_IMAGE_PAGES, PAGE_SIZE, Pages, pack::Packs};
use struct_ops_sim::tramp::{
    Error, Flags, Func, FuncModel, Jit, Kind, Return, RunCtx, Targets, TrampLink, Trampoline,
    Version,
};

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    TrampEnter(u64),
    /// A program with its cookie, its arguments, and the return value that it sees (fexit, fmod_ret).
    Program {
        cookie: u64,
        args: Vec<u64>,
        ret: Option<u64>,
    },
    /// The original function with the arguments that it has.
    Body(Vec<u64>),
    TrampExit(u64),
}

thread_local! {
    /// `current->bpf_ctx`.
    static BPF_CTX: Cell<*mut RunCtx> = const { Cell::new(std::ptr::null_mut()) };
    static LOG: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    /// The case that runs.
    static CASE: RefCell<Option<Case>> = const { RefCell::new(None) };
}

/// The start time that enter hands to exit.
const START: u64 = 0x5747_5274;

struct_ops_sim::trampoline_target! {
    extern "C" fn enter(prog: u64, run_ctx: *mut RunCtx) -> u64 {
        // SAFETY: the trampoline passes its own run_ctx, which lives until it returns.
        unsafe { (*run_ctx).saved_run_ctx = BPF_CTX.replace(run_ctx) };
        if prog == SKIPPED { 0 } else { START }
    }

    extern "C" fn exit(prog: u64, start: u64, run_ctx: *mut RunCtx) {
        assert_eq!(start, if prog == SKIPPED { 0 } else { START });
        // SAFETY: as in enter(), which has written it.
        BPF_CTX.set(unsafe { (*run_ctx).saved_run_ctx });
    }

    extern "C" fn tramp_enter(im: u64) {
        LOG.with_borrow_mut(|log| log.push(Event::TrampEnter(im)));
    }

    extern "C" fn tramp_exit(im: u64) {
        LOG.with_borrow_mut(|log| log.push(Event::TrampExit(im)));
    }

    extern "C" fn program(ctx: *const u64, _insnsi: u64) -> u64 {
        // SAFETY: ctx[-1] is the number of argument registers that follow; enter() has set the run context; a
        // return value follows the arguments if the case says so.
        let (cookie, args, after) = unsafe {
            let n = *ctx.sub(1) as usize;
            let args: Vec<u64> = (0..n).map(|i| *ctx.add(i)).collect();
            ((*BPF_CTX.get()).bpf_cookie, args, ctx.add(n))
        };
        CASE.with_borrow(|case| {
            let link = case.as_ref().unwrap().links.iter().find(|l| l.cookie == cookie).unwrap();
            // SAFETY: fexit and fmod_ret trampolines have a slot for the return value behind the arguments.
            let ret = (link.kind != Kind::Fentry).then(|| unsafe { *after });
            LOG.with_borrow_mut(|log| log.push(Event::Program { cookie, args, ret }));
            link.ret
        })
    }

    extern "C" fn body_regs(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> u64 {
        body(&[a, b, c, d, e, f], &[])
    }
}

/// An original function with arguments on the stack: for these the kernel aligns it.
#[allow(clippy::too_many_arguments)]
extern "C" fn body_stack(
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
    g: u64,
    h: u64,
    i: u64,
    j: u64,
    k: u64,
    l: u64,
    m: u64,
    n: u64,
) -> u64 {
    body(&[a, b, c, d, e, f], &[g, h, i, j, k, l, m, n])
}

fn body(regs: &[u64], stack: &[u64]) -> u64 {
    CASE.with_borrow(|case| {
        let case = case.as_ref().unwrap();
        LOG.with_borrow_mut(|log| log.push(Event::Body(case.args_of(regs, stack))));
        case.body_ret
    })
}

/// enter returns 0 for this program: it does not run.
const SKIPPED: u64 = 0xdead;

#[derive(Clone, Copy, Debug)]
struct Link {
    kind: Kind,
    cookie: u64,
    skipped: bool,
    ret: u64,
}

#[derive(Clone, Debug)]
struct Case {
    version: Version,
    ibt: bool,
    jmp: bool,
    ip_arg: bool,
    sizes: Vec<usize>,
    ret: usize,
    /// Empty model of a traced function, or one link for struct_ops.
    traced: bool,
    links: Vec<Link>,
    regs: [u64; 6],
    stack: [u64; 8],
    body_ret: u64,
}

/// A cookie of each size of immediate.
fn cookie(g: &mut Gen, index: u64) -> u64 {
    let cookie = match u8::arbitrary(g) % 4 {
        0 => 0,
        1 => u64::from(u32::arbitrary(g)),
        2 => i64::from(i32::arbitrary(g) | i32::MIN) as u64,
        _ => u64::arbitrary(g),
    };
    // told apart by it
    cookie & !7 | index
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut sizes = Vec::new();
        let mut regs = usize::arbitrary(g) % 13;
        while regs > 0 {
            let size = if u8::arbitrary(g) % 4 == 0 && regs > 1 {
                9 + usize::arbitrary(g) % 8
            } else {
                1 + usize::arbitrary(g) % 8
            };
            regs -= size.div_ceil(8);
            sizes.push(size);
        }
        let version = Version::ALL[usize::arbitrary(g) % Version::ALL.len()];
        let traced = bool::arbitrary(g);
        let count = if traced { 1 + u64::arbitrary(g) % 5 } else { 1 };
        let mut links: Vec<Link> = (0..count)
            .map(|index| Link {
                kind: match (traced, u8::arbitrary(g) % 3) {
                    (false, _) | (true, 0) => Kind::Fentry,
                    (true, 1) => Kind::ModifyReturn,
                    (true, _) => Kind::Fexit,
                },
                cookie: cookie(g, index),
                skipped: u8::arbitrary(g) % 8 == 0,
                ret: if bool::arbitrary(g) {
                    0
                } else {
                    u64::arbitrary(g)
                },
            })
            .collect();
        links.sort_by_key(|link| {
            [Kind::Fentry, Kind::ModifyReturn, Kind::Fexit]
                .iter()
                .position(|k| *k == link.kind)
        });
        Case {
            version,
            ibt: bool::arbitrary(g),
            jmp: version >= Version::V6_19 && bool::arbitrary(g),
            ip_arg: traced && bool::arbitrary(g),
            sizes,
            ret: [0, 1, 2, 4, 8][usize::arbitrary(g) % 5],
            traced,
            links,
            regs: std::array::from_fn(|_| u64::arbitrary(g)),
            stack: std::array::from_fn(|_| u64::arbitrary(g)),
            body_ret: u64::arbitrary(g),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let case = self.clone();
        let fewer_args = (0..self.sizes.len()).map(move |i| {
            let mut case = case.clone();
            case.sizes.remove(i);
            case
        });
        let case = self.clone();
        let fewer_links = (0..self.links.len())
            .filter(|_| self.links.len() > 1)
            .map(move |i| {
                let mut case = case.clone();
                case.links.remove(i);
                case
            });
        Box::new(
            fewer_args
                .chain(fewer_links)
                .collect::<Vec<_>>()
                .into_iter(),
        )
    }
}

impl Case {
    /// Values of all arguments, in order, by the C ABI.
    fn args_of(&self, regs: &[u64], stack: &[u64]) -> Vec<u64> {
        let (mut next_reg, mut next_slot, mut args) = (0, 0, Vec::new());
        for size in &self.sizes {
            let n = size.div_ceil(8);
            if next_reg + n > 6 {
                args.extend(&stack[next_slot..next_slot + n]);
                next_slot += n;
            } else {
                args.extend(&regs[next_reg..next_reg + n]);
                next_reg += n;
            }
        }
        args
    }

    fn slots(&self) -> usize {
        let mut regs = 0;
        let on_stack = self.sizes.iter().map(|size| size.div_ceil(8)).filter(|n| {
            let fits = regs + n <= 6;
            regs += if fits { *n } else { 0 };
            !fits
        });
        on_stack.sum()
    }

    /// What the programs see.
    fn ctx(&self) -> Vec<u64> {
        // before 7.3 the stack arguments of an indirect call are read one slot too high
        let shift = usize::from(!self.traced && self.version < Version::V7_3);
        let mut stack = self.stack;
        stack.rotate_left(shift);
        // a single argument on the stack of 4 bytes at most is cut to them
        if self.slots() == 1 && self.sizes.last().is_some_and(|&size| size <= 4) {
            stack[0] &= 0xffff_ffff;
        }
        self.args_of(&self.regs, &stack)
    }

    /// The original function gets its arguments again from the trampoline, or as they were.
    fn body_args(&self, called_by_trampoline: bool) -> Vec<u64> {
        if called_by_trampoline {
            self.ctx()
        } else {
            self.args_of(&self.regs, &self.stack)
        }
    }

    /// The log and the return value that the kernel's documentation promises.
    fn expected(&self, im: u64) -> (Vec<Event>, Option<u64>) {
        let mut log = Vec::new();
        let program = |link: &Link, ret| Event::Program {
            cookie: link.cookie,
            args: self.ctx(),
            ret,
        };
        let of = |kind| self.links.iter().filter(move |link| link.kind == kind);
        let call_orig = self.links.iter().any(|link| link.kind != Kind::Fentry);
        if call_orig {
            log.push(Event::TrampEnter(im));
        }
        for link in of(Kind::Fentry).filter(|link| !link.skipped) {
            log.push(program(link, None));
        }
        if !self.traced {
            let link = self.links[0];
            return (log, (self.ret > 0 && !link.skipped).then_some(link.ret));
        }
        let mut ret = 0;
        let mut skip_body = false;
        for link in of(Kind::ModifyReturn) {
            if !link.skipped {
                log.push(program(link, Some(ret)));
                ret = link.ret;
            }
            if ret != 0 {
                skip_body = true;
                break;
            }
        }
        if !skip_body {
            log.push(Event::Body(self.body_args(call_orig)));
            ret = self.body_ret;
        }
        for link in of(Kind::Fexit).filter(|link| !link.skipped) {
            log.push(program(link, Some(ret)));
        }
        if call_orig {
            log.push(Event::TrampExit(im));
        }
        (log, Some(ret))
    }

    /// Assembles, runs, and returns what happened.
    fn run(&self, packs: Option<&Packs>) -> (Vec<Event>, u64, u64) {
        let model = FuncModel::new(&self.sizes, self.ret).unwrap();
        let (enter, exit) = (enter as *const () as u64, exit as *const () as u64);
        let targets = Targets {
            enter,
            exit,
            enter_recur: enter,
            exit_recur: exit,
            tramp_enter: tramp_enter as *const () as u64,
            tramp_exit: tramp_exit as *const () as u64,
            ..Targets::default()
        };
        let links: Vec<TrampLink> = self
            .links
            .iter()
            .map(|link| TrampLink {
                prog: if link.skipped {
                    SKIPPED
                } else {
                    0xffff_c900_0000_1000
                },
                bpf_func: program as *const () as u64,
                cookie: link.cookie,
                kind: link.kind,
                sleepable: false,
                recur: self.traced,
            })
            .collect();
        let alloc = || match packs {
            Some(packs) => packs.alloc(PAGE_SIZE, enter),
            None => Image::alloc(PAGE_SIZE, enter),
        };
        let mut function = alloc().unwrap();
        let func = Func {
            addr: function.addr(),
            endbr: self.ibt,
            im: 0xffff_8880_0000_2000,
        };
        let flags = match self.traced {
            false => Flags::struct_ops(&model),
            true if self.ip_arg => Flags::tracing(&links, self.jmp) | Flags::IP_ARG,
            true => Flags::tracing(&links, self.jmp),
        };
        let jit = Jit {
            version: self.version,
            ibt: self.ibt,
            ret: Return::RetInt3,
        };
        let trampoline = Trampoline {
            jit,
            model: &model,
            flags,
            links: &links,
            targets: &targets,
            func,
        };
        let mut pages = Pages::default();
        let code = pages.prepare_trampoline(&trampoline, alloc).unwrap();
        pages.protect().unwrap();

        // the traced function: its entry calls the trampoline (or jumps to it), then comes its body
        let body = if self.slots() == 0 {
            body_regs as *const () as u64
        } else {
            body_stack as *const () as u64
        };
        let mut asm = CodeAssembler::new(64).unwrap();
        if self.ibt {
            asm.endbr64().unwrap();
        }
        let call_orig = self.links.iter().any(|link| link.kind != Kind::Fentry);
        if self.jmp && call_orig {
            asm.jmp(code.at()).unwrap()
        } else {
            asm.call(code.at()).unwrap()
        }
        asm.jmp(body).unwrap();
        function
            .write(0, &asm.assemble(function.addr()).unwrap())
            .unwrap();
        function.protect().unwrap();

        let entry = if self.traced {
            function.addr()
        } else {
            code.at()
        };
        LOG.take();
        CASE.set(Some(self.clone()));
        let ([a, b, c, d, e, f], [g, h, i, j, k, l, m, n]) = (self.regs, self.stack);
        type Called = extern "C" fn(
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
        ) -> u64;
        // SAFETY: the image holds a function of the C ABI that reads at most these arguments; it lives until the end of
        // this function.
        let called: Called = unsafe { std::mem::transmute(entry as usize) };
        let ret = called(a, b, c, d, e, f, g, h, i, j, k, l, m, n);
        assert!(BPF_CTX.get().is_null());
        (LOG.take(), ret, func.im)
    }
}

#[test]
fn programs_receive_what_the_caller_passed() {
    fn property(case: Case) {
        let (log, ret, im) = case.run(None);
        let (expected, returned) = case.expected(im);
        assert_eq!(log, expected);
        if let Some(returned) = returned {
            assert_eq!(ret, returned);
        }
    }
    QuickCheck::new()
        .tests(3000)
        .quickcheck(property as fn(Case));
}

#[test]
fn the_same_from_a_pack() {
    let packs = Packs::default();
    let mut g = Gen::new(100);
    for _ in 0..300 {
        let case = Case::arbitrary(&mut g);
        let (log, _, im) = case.run(Some(&packs));
        assert_eq!(log, case.expected(im).0);
    }
    // what is freed is used again
    assert_eq!(packs.count(), 1);
}

/// `rwxp` of the mapping that an address is in.
fn permissions(addr: u64) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        (number(from)..number(to))
            .contains(&addr)
            .then(|| rest[..4].to_owned())
    })
}

#[test]
fn never_writable_and_executable() {
    let near = enter as *const () as u64;
    let mut image = Image::alloc(PAGE_SIZE, near).unwrap();
    let addr = image.addr();
    assert_eq!(permissions(addr).as_deref(), Some("rw-p"));
    image.write(0, &[0xc3]).unwrap();
    image.protect().unwrap();
    assert_eq!(permissions(addr).as_deref(), Some("r-xp"));
    assert_eq!(image.write(0, &[0xcc]), Err(Error::Protected { at: addr }));
    image.protect().unwrap();
    assert_eq!(permissions(addr).as_deref(), Some("r-xp"));

    let freed = image.free().unwrap();
    assert!(freed.contains(addr));
    assert_eq!(permissions(addr).as_deref(), Some("---p"));
    drop(freed);
    assert_eq!(permissions(addr), None);

    let packs = Packs::default();
    let mut image = packs.alloc(PAGE_SIZE, near).unwrap();
    image.write(0, &[0xc3]).unwrap();
    assert_eq!(permissions(image.addr()).as_deref(), Some("r-xs"));
    image.protect().unwrap();
    assert_eq!(
        image.write(0, &[0xcc]),
        Err(Error::Protected { at: image.addr() })
    );

    // nothing in this process is both
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.lines().any(|line| {
        line.split(' ')
            .nth(1)
            .is_some_and(|p| p.contains('w') && p.contains('x'))
    }));
}

#[test]
fn writes_stay_inside() {
    let mut image = Image::alloc(PAGE_SIZE, enter as *const () as u64).unwrap();
    let size = image.size();
    assert_eq!(
        image.write(size - 1, &[0, 0]),
        Err(Error::OutOfBounds {
            offset: size - 1,
            len: 2,
            size
        })
    );
    assert_eq!(
        image.write(usize::MAX, &[0, 0]),
        Err(Error::OutOfBounds {
            offset: usize::MAX,
            len: 2,
            size
        })
    );
}

#[test]
fn pages_fill_one_after_the_other() {
    let near = enter as *const () as u64;
    let model = FuncModel::new(&[8], 4).unwrap();
    let targets = Targets {
        enter: near,
        exit: exit as *const () as u64,
        ..Targets::default()
    };
    let links = [TrampLink {
        bpf_func: program as *const () as u64,
        ..TrampLink::default()
    }];
    let trampoline = Trampoline {
        jit: Jit::V6_12,
        model: &model,
        flags: Flags::struct_ops(&model),
        links: &links,
        targets: &targets,
        func: Func::default(),
    };
    let mut pages = Pages::default();
    let mut count = 0;
    let full = loop {
        match pages.prepare_trampoline(&trampoline, || Image::alloc(PAGE_SIZE, near)) {
            Ok(code) => {
                // none lies across a page
                let page = pages.images().last().unwrap();
                assert!(
                    page.contains(code.at()) && page.contains(code.at() + code.size() as u64 - 1)
                );
                count += 1;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(
        full,
        Error::Full {
            pages: MAX_TRAMP_IMAGE_PAGES
        }
    );
    let size = trampoline.generate(near).unwrap().size();
    assert_eq!(count, MAX_TRAMP_IMAGE_PAGES * (PAGE_SIZE / size));
}

#[test]
fn targets_out_of_reach_are_refused() {
    let model = FuncModel::new(&[], 0).unwrap();
    let targets = Targets {
        enter: 0x7fff_0000_0000,
        exit: 0x7fff_0000_0000,
        ..Targets::default()
    };
    let trampoline = Trampoline {
        jit: Jit::V7_3,
        model: &model,
        flags: Flags::struct_ops(&model),
        links: &[TrampLink::default()],
        targets: &targets,
        func: Func::default(),
    };
    assert!(matches!(
        trampoline.generate(0x1000),
        Err(Error::OutOfRange { at: 0x1000, .. })
    ));
    let trampoline = Trampoline {
        flags: Flags::INDIRECT | Flags::CALL_ORIG,
        ..trampoline
    };
    assert!(matches!(trampoline.generate(0x1000), Err(Error::Flags(_))));
}

#[test]
fn models_are_checked() {
    assert_eq!(
        FuncModel::new(&[8; 13], 0),
        Err(Error::TooManyArgs { found: 13 })
    );
    assert_eq!(
        FuncModel::new(&[8, 17], 0),
        Err(Error::ArgSize { index: 1, size: 17 })
    );
    assert_eq!(
        FuncModel::new(&[0], 0),
        Err(Error::ArgSize { index: 0, size: 0 })
    );
    assert_eq!(FuncModel::new(&[], 16), Err(Error::RetSize(16)));
}
