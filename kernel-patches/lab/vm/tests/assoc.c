// SPDX-License-Identifier: GPL-2.0
/* Which struct_ops map a program is tied to (Linux 7.x). */
#include "lab.h"
#include "../module/lab_ops.h"

#include <unistd.h>

#include "assoc.skel.h"

/* map_update of another map fails: the program of the running one stays tied. */
static void assoc_failed_update(void)
{
	struct assoc *skel = assoc__open_and_load();
	int dev = lab_ops_open(), err;
	struct bpf_link *link;
	struct value v;
	__u64 tied;

	need(skel, "load failed");
	need(dev >= 0, "no lab_ops");
	link = bpf_map__attach_struct_ops(skel->maps.running);
	need(link, "attach is %s", lab_number(-errno));
	check_eq("call", lab_ops_call(dev, 0, LAB_PLAIN, 0, &tied), 0);
	check_eq("tied", tied, 1);
	need(value_new(&v, "lab_ops", "lab_ops"), "no BTF of the value");
	value_prog(&v, "plain", skel->progs.shared);
	*(unsigned long *)value_member(&v, "sleepable") = 999;
	err = map_update_key(bpf_map__fd(skel->maps.other), 0, v.bytes, 0);
	check_eq("map_update with a bad fd", err, -EBADF);
	check_eq("call", lab_ops_call(dev, 0, LAB_PLAIN, 0, &tied), 0);
	check(tied == 1, "after a map_update that failed the running program is tied to no map");
	bpf_link__destroy(link);
	value_free(&v);
	assoc__destroy(skel);
	close(dev);
}

const struct lab_test assoc_tests[] = {
	{ "assoc-failed-update", assoc_failed_update },
	{}
};
