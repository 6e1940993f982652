//! The order of CPUs that do the same: by what they are at, as far as that can be told without names.
//!
//! Those that look alike are tried in every order. Not here: how slots, cookies and declarations are named (`walk`).

use super::Packing;
use super::look::look;
use super::names::identity;
use crate::kernel::Kernel;
use crate::pc::Pc;
use crate::world::MAX_CPUS;

impl Packing {
    /// CPUs sorted by what they do; groups `(start, length)` of those that the sort cannot tell apart.
    pub(super) fn cpu_order(&self, k: &Kernel) -> ([u8; MAX_CPUS], Vec<(usize, usize)>) {
        // Asked only where there is something to tell apart, and once.
        let shared = |i: usize| {
            let class = self.cpu_class[i];
            self.cpu_class[..self.cpus]
                .iter()
                .filter(|c| **c == class)
                .count()
                > 1
        };
        let looks: [u64; MAX_CPUS] = std::array::from_fn(|i| {
            if i < self.cpus && shared(i) {
                look(k, &k.cpus[i])
            } else {
                0
            }
        });
        let mut keys: [(u8, u64, u8); MAX_CPUS] =
            std::array::from_fn(|i| (self.cpu_class[i], looks[i], i as u8));
        // Within a class only: a class's positions are those of its members.
        keys[..self.cpus].sort_unstable();
        let mut order = identity();
        let mut taken = [false; MAX_CPUS];
        for (i, place) in order.iter_mut().enumerate().take(self.cpus) {
            let class = self.cpu_class[i];
            let next = (0..self.cpus)
                .find(|j| !taken[*j] && keys[*j].0 == class)
                .expect("as many as positions");
            taken[next] = true;
            *place = keys[next].2;
        }
        let mut groups = Vec::new();
        let alike = |a: u8, b: u8| {
            let (a, b) = (usize::from(a), usize::from(b));
            self.cpu_class[a] == self.cpu_class[b]
                && k.cpus[a].pc != Pc::Idle
                && looks[a] == looks[b]
        };
        let mut start = 0;
        while start < self.cpus {
            let mut len = 1;
            while start + len < self.cpus && alike(order[start], order[start + len]) {
                len += 1;
            }
            if len > 1 {
                groups.push((start, len));
            }
            start += len;
        }
        (order, groups)
    }
}

pub(super) fn permutations(
    order: &[u8; MAX_CPUS],
    groups: &[(usize, usize)],
    f: &mut impl FnMut(&[u8; MAX_CPUS]),
) {
    fn go(
        order: &mut [u8; MAX_CPUS],
        groups: &[(usize, usize)],
        at: usize,
        f: &mut impl FnMut(&[u8; MAX_CPUS]),
    ) {
        let Some(((start, len), rest)) = groups.split_first() else {
            return f(order);
        };
        if at + 1 >= *len {
            return go(order, rest, 0, f);
        }
        for i in at..*len {
            order.swap(start + at, start + i);
            go(order, groups, at + 1, f);
            order.swap(start + at, start + i);
        }
    }
    go(&mut order.clone(), groups, 0, f);
}
