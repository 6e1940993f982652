//! Image pages, kallsyms and trampolines in the explorer's tables: an executable page is not written, a page that is gone
//! is not entered.

use super::Tables;
use crate::backend::{Backend, Step, Trampolines};
use crate::design::Twin;
use crate::invariant::Invariant;
use crate::kernel::{Code, Dirty, Func, Image, ImageKey, KdataKey, Ksym};
use crate::table::Full;
use crate::world::MAX_MEMBERS;

impl Tables<'_> {
    fn page(func: Func) -> ImageKey {
        func.image.expect("a pointer that was called")
    }
}

impl Trampolines for Tables<'_> {
    // ---- trampolines -------------------------------------------------------------------------------

    fn under_text_mutex<T>(&mut self, act: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        act(self)
    }

    fn new_ksym(&mut self, owner: KdataKey, place: usize) -> Step {
        let ksym = self.k.ksyms.insert(Ksym::default());
        let ksym = ksym.map_err(|f| self.full(f))?;
        self.kdata(owner)?.ksyms[place] = Some(ksym);
        Ok(())
    }

    fn name_ksym(&mut self, owner: KdataKey, place: usize, func: Func) -> Step {
        let ksym = self.kdata(owner)?.ksyms[place].expect("just allocated");
        self.ksym(ksym)?.func = func;
        Ok(())
    }

    fn add_ksyms(&mut self, owner: KdataKey) -> Step {
        for ksym in self.kdata(owner)?.ksyms {
            let Some(ksym) = ksym else { break };
            self.ksym(ksym)?.listed = true;
        }
        Ok(())
    }

    fn del_ksyms(&mut self, owner: KdataKey) -> Step {
        for ksym in self.kdata(owner)?.ksyms {
            let Some(ksym) = ksym else { break };
            self.ksym(ksym)?.listed = false;
        }
        Ok(())
    }

    fn free_ksyms(&mut self, owner: KdataKey) -> Step {
        let ksyms = std::mem::take(&mut self.kdata(owner)?.ksyms);
        for ksym in ksyms {
            let Some(ksym) = ksym else { break };
            if self.ksym(ksym)?.listed {
                self.violate(
                    Invariant::KsymsMatchImages,
                    format_args!("a ksym is freed that kallsyms still lists"),
                );
            }
            self.k.ksyms.remove(ksym);
        }
        Ok(())
    }

    fn page_fill(&mut self, page: ImageKey) -> Step<u16> {
        Ok(self.image(page)?.fill)
    }

    fn has_page_slot(&mut self, owner: KdataKey) -> Step<bool> {
        Ok(self.kdata(owner)?.pages.iter().any(Option::is_none))
    }

    fn new_page(&mut self, owner: KdataKey) -> Step<Option<ImageKey>> {
        let free = self.kdata(owner)?.pages.iter().position(Option::is_none);
        let Some(free) = free else { return Ok(None) };
        let image = self.k.images.insert(Image::default());
        let image = image.map_err(|f| self.full(f))?;
        self.kdata(owner)?.pages[free] = Some(image);
        Ok(Some(image))
    }

    fn write_trampoline(&mut self, page: ImageKey, size: u16, code: Code) -> Step<Func> {
        let twin = self.design.twin;
        let image = self.image(page)?;
        if image.protected {
            return Err(self.broken(
                Invariant::TextImmutable,
                format_args!("an executable page is written"),
            ));
        }
        let Some(index) = image.code.iter().position(|c| c.prog == 0) else {
            return Err(self.full(Full));
        };
        image.fill += size;
        image.code[index] = code;
        image.protected = twin == Twin::WriteProtected;
        Ok(Func {
            image: Some(page),
            index: index as u8,
        })
    }

    fn protect(&mut self, owner: KdataKey) -> Step {
        for page in self.kdata(owner)?.pages.into_iter().flatten() {
            self.image(page)?.protected = true;
            self.report.witness(Invariant::TextImmutable);
        }
        Ok(())
    }

    fn free_images(&mut self, owner: KdataKey) -> Step<bool> {
        if self.in_use(owner) && self.kdata(owner)?.pages.iter().any(Option::is_some) {
            self.touch(Dirty::IMAGE);
        }
        let pages = std::mem::take(&mut self.kdata(owner)?.pages);
        let mut any = false;
        for page in pages.into_iter().flatten() {
            self.image(page)?;
            let names_it = |s: &Ksym| s.listed && s.func.image == Some(page);
            if self.k.ksyms.iter().any(|(_, s)| names_it(s)) {
                self.violate(
                    Invariant::KsymsMatchImages,
                    format_args!("kallsyms still names a trampoline in the page"),
                );
            }
            self.k.images.remove(page);
            any = true;
        }
        Ok(any)
    }

    fn new_test_page(&mut self, code: Code) -> Step<(ImageKey, Func)> {
        let mut places = [Code::default(); MAX_MEMBERS];
        places[0] = code;
        let image = self.k.images.insert(Image {
            protected: true,
            fill: 0,
            code: places,
        });
        let image = image.map_err(|f| self.full(f))?;
        let func = Func {
            image: Some(image),
            index: 0,
        };
        Ok((image, func))
    }

    fn free_test_page(&mut self, page: ImageKey) -> Step {
        self.image(page)?;
        self.k.images.remove(page);
        Ok(())
    }

    // ---- the call of a member ----------------------------------------------------------------------

    fn enter_trampoline(&mut self, func: Func) -> Step<Code> {
        let code = self.code_at(func)?;
        if !self.image(Self::page(func))?.protected {
            return Err(self.broken(
                Invariant::NoTornPublish,
                format_args!("the page is not executable: the call faults"),
            ));
        }
        Ok(code)
    }

    fn code_at(&mut self, func: Func) -> Step<Code> {
        Ok(self.image(Self::page(func))?.code[usize::from(func.index)])
    }

    fn leave_trampoline(&mut self, _: Func) {}

    fn named(&mut self, func: Func) -> bool {
        self.k.ksyms.iter().any(|(_, s)| s.listed && s.func == func)
    }

    fn set_run_ctx(&mut self, code: Code) {
        self.cpu().run_ctx = code.cookie;
    }

    fn run_ctx_cookie(&mut self) -> u64 {
        let cookie = self.cpu().run_ctx;
        self.world.cookies[usize::from(cookie)]
    }
}
