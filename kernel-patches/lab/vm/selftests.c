// SPDX-License-Identifier: GPL-2.0
/*
 * What the chosen selftests take from files that are left out: functions to
 * put uprobes on, and an mprotect() of the stack. Weak: where the tree's
 * helpers have one, as those of 7.3 do, theirs is taken.
 */
#include <alloca.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROBED(name) \
	__attribute__((weak, noinline)) void name(void) { asm volatile(""); }

PROBED(uprobe_multi_func_1)
PROBED(uprobe_multi_func_2)
PROBED(uprobe_multi_func_3)

__attribute__((weak)) int stack_mprotect(void)
{
	uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t middle = (uintptr_t)alloca(3 * page) + page;

	return mprotect((void *)(middle & -page), page, PROT_READ | PROT_WRITE | PROT_EXEC);
}
