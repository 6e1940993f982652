//! What subsystems, cgroups and a scenario's own subsystems keep, in the explorer's tables.

use super::Tables;
use crate::backend::{Backend, Gone, Step, Structures};
use crate::kernel::{
    Cgroup, Cpu, Item, ItemArray, KdataKey, Node, OwnState, Reg, Ring, Scx, Sock, Walk,
};
use crate::table::Full;
use crate::world::{MAX_KDATAS, OpKind};

impl Structures for Tables<'_> {
    // ---- what subsystems keep ----------------------------------------------------------------------

    fn list_next(&mut self, node: Node) -> Step<Node> {
        match node {
            Node::Head => Ok(self.k.subsys.tcp_next),
            Node::Of(key) => Ok(self.kdata(key)?.next),
            Node::Poison => Err(self.gone(Gone::ListNode)),
        }
    }

    fn set_list_next(&mut self, node: Node, to: Node) -> Step {
        match node {
            Node::Head => self.k.subsys.tcp_next = to,
            Node::Of(key) => self.kdata(key)?.next = to,
            Node::Poison => return Err(self.gone(Gone::ListNode)),
        }
        Ok(())
    }

    fn list_prev(&mut self, node: Node) -> Step<Node> {
        match node {
            Node::Head => Ok(self.k.subsys.tcp_prev),
            Node::Of(key) => Ok(self.kdata(key)?.prev),
            Node::Poison => Err(self.gone(Gone::ListNode)),
        }
    }

    fn set_list_prev(&mut self, node: Node, to: Node) -> Step {
        match node {
            Node::Head => self.k.subsys.tcp_prev = to,
            Node::Of(key) => self.kdata(key)?.prev = to,
            Node::Poison => return Err(self.gone(Gone::ListNode)),
        }
        Ok(())
    }

    fn list_bound(&self) -> usize {
        MAX_KDATAS
    }

    fn new_sock(&mut self, kdata: KdataKey, cookie: u8) -> Step<u8> {
        self.counted = true;
        let Some(place) = self.k.socks.iter().position(|s| s.kdata.is_none()) else {
            return Err(self.full(Full));
        };
        self.k.socks[place] = Sock {
            kdata: Some(kdata),
            expect: cookie,
            busy: None,
            fds: self.proc_bit(),
        };
        Ok(place as u8)
    }

    fn sock(&mut self, sock: u8) -> Option<(KdataKey, u8)> {
        let sock = self.k.socks[usize::from(sock)];
        Some((sock.kdata?, sock.expect))
    }

    fn close_sock_fd(&mut self, sock: u8) -> bool {
        let bit = self.proc_bit();
        let fds = &mut self.k.socks[usize::from(sock)].fds;
        *fds &= !bit;
        *fds != 0
    }

    fn close_sock(&mut self, sock: u8) {
        self.counted = true;
        self.k.socks[usize::from(sock)] = Sock::default();
    }

    fn registration(&mut self, place: usize) -> Option<Reg> {
        self.k.subsys.regs.get(place).copied().flatten()
    }

    fn push_registration(&mut self, reg: Reg) -> Step<usize> {
        let regs = &mut self.k.subsys.regs;
        let Some(place) = regs.iter().position(Option::is_none) else {
            return Err(self.full(Full));
        };
        regs[place] = Some(reg);
        Ok(place)
    }

    fn set_registration(&mut self, place: usize, reg: Reg) {
        self.k.subsys.regs[place] = Some(reg);
    }

    fn remove_registration(&mut self, place: usize) {
        let regs = &mut self.k.subsys.regs;
        regs[place] = None;
        regs[place..].rotate_left(1);
        // Who stands behind an entry of a list stays where it is in the list.
        let walks = |c: &&mut Cpu| c.op == OpKind::Run && c.kdata.is_some();
        for walker in self.k.cpus.iter_mut().filter(walks) {
            walker.arg -= u8::from(usize::from(walker.arg) > place);
        }
    }

    fn scx(&mut self) -> Scx {
        self.k.subsys.scx
    }

    fn set_scx(&mut self, scx: Scx) {
        self.k.subsys.scx = scx;
    }

    fn hdev(&mut self, kdata: KdataKey) -> Step<bool> {
        Ok(self.kdata(kdata)?.hdev)
    }

    fn set_hdev(&mut self, kdata: KdataKey, to: bool) -> Step {
        self.kdata(kdata)?.hdev = to;
        Ok(())
    }

    fn rdesc_ops(&mut self) -> Option<Reg> {
        self.k.subsys.hid.rdesc_ops
    }

    fn set_rdesc_ops(&mut self, to: Option<Reg>) {
        self.k.subsys.hid.rdesc_ops = to;
    }

    fn device_data(&mut self) -> bool {
        self.k.subsys.hid.device_data
    }

    fn set_device_data(&mut self) {
        self.k.subsys.hid.device_data = true;
    }

    fn ring(&mut self, ring: u8) -> Ring {
        let rings = &self.k.subsys.rings;
        rings.get(usize::from(ring)).copied().unwrap_or_default()
    }

    fn set_ring(&mut self, ring: u8, to: Ring) {
        self.k.subsys.rings[usize::from(ring)] = to;
    }

    // ---- cgroups -----------------------------------------------------------------------------------

    fn cgroup(&mut self, cgroup: u8) -> Cgroup {
        self.k.subsys.cgroups[usize::from(cgroup)]
    }

    fn set_cgroup(&mut self, cgroup: u8, to: Cgroup) {
        self.k.subsys.cgroups[usize::from(cgroup)] = to;
    }

    fn activate(&mut self, cgroup: u8, array: ItemArray) {
        let effective = &mut self.k.subsys.cgroups[usize::from(cgroup)].effective;
        let old = std::mem::replace(effective, array);
        for cpu in &mut self.k.cpus {
            let walk = &mut cpu.walk;
            if walk.cgroup == cgroup + 1 && !walk.replaced {
                walk.replaced = true;
                walk.array = old;
                // What is behind the walk is nobody's business any more.
                walk.array[..usize::from(walk.next)].fill(None);
            }
        }
    }

    fn walk_begin(&mut self, cgroup: u8) {
        self.cpu().walk = Walk {
            cgroup: cgroup + 1,
            ..Walk::default()
        };
    }

    fn walk_next(&mut self) -> Option<Item> {
        let walk = self.cpu().walk;
        let cgroup = usize::from(walk.cgroup.checked_sub(1).expect("a walk is in progress"));
        let array = match walk.replaced {
            true => walk.array,
            false => self.k.subsys.cgroups[cgroup].effective,
        };
        let item = array.get(usize::from(walk.next)).copied().flatten();
        let walk = &mut self.cpu().walk;
        if item.is_some() {
            walk.array[usize::from(walk.next)] = None;
            walk.next += 1;
        } else {
            *walk = Walk::default();
        }
        item
    }

    // ---- a scenario's own subsystems ---------------------------------------------------------------

    fn own(&mut self) -> OwnState {
        self.k.subsys.own
    }

    fn set_own(&mut self, own: OwnState) {
        self.counted |= self.k.subsys.own.refs != own.refs;
        self.k.subsys.own = own;
    }
}
