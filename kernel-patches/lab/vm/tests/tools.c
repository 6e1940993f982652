// SPDX-License-Identifier: GPL-2.0
/* Tools of the tree under test, run as they are: bpftool and selftests. */
#include "lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab_ops.skel.h"

/* Runs a command and keeps its output. */
static int output(const char *command, char *text, size_t size)
{
	FILE *f = popen(command, "r");
	size_t len;

	if (!f)
		return -1;
	len = fread(text, 1, size - 1, f);
	text[len] = 0;
	/* the rest, so that the command does not die of a closed pipe */
	while (fgetc(f) != EOF)
		;
	return pclose(f);
}

static void bpftool_link(void)
{
	struct lab_ops *skel = lab_ops__open();
	static char text[4096];
	char command[128], *end;
	struct bpf_link *l;
	int link;

	need(skel, "open failed");
	skel->rodata->have_cookie = lab_has_cookie();
	need(!lab_ops__load(skel), "load failed");
	l = bpf_map__attach_struct_ops(skel->maps.lab_link);
	need(l, "attach is %s", lab_number(-errno));
	bpf_link__destroy(l);
	link = raw_link_create(bpf_map__fd(skel->maps.lab_link), 123456789);
	need(link >= 0, "link_create is %s", lab_number(link));

	/* by its number: the VM may have other links */
	snprintf(command, sizeof(command), "/lab/bpftool link show id %lld 2>&1",
		 fdinfo(link, "link_id"));
	/* its status says nothing: it takes errno for it */
	output(command, text, sizeof(text));
	for (end = text; *end; end++)
		if (*end == '\n')
			*end = ' ';
	note("%s", text);
	check(strstr(text, "struct_ops"), "no struct_ops");
	if (!strcmp(lab_series, "link-owned"))
		check(strstr(text, "cookie 123456789"), "no cookie");
	close(link);
	lab_ops__destroy(skel);
}

/* Runs a program of the tree: what failed, and the line that sums it up. */
static void selftest(const char *program, const char *command, const char *summary)
{
	static char text[65536];
	char path[64], *line, *save;
	int status;

	snprintf(path, sizeof(path), "/lab/%s", program);
	if (access(path, X_OK)) {
		skip("no %s for this kernel", program);
		return;
	}
	status = output(command, text, sizeof(text));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strstr(line, ":FAIL") || !strncmp(line, "not ok", 6))
			printf("# %s\n", line);
		if (!strncmp(line, summary, strlen(summary)))
			note("%s", line);
	}
	check_eq(program, status, 0);
}

static void selftests(void)
{
	/* tcp_ca_kfunc calls BBR, which the lab's kernels do not have; perf_event
	 * wants a timer to fire during a loop, which under emulation is luck
	 */
	selftest("test_progs", "cd /lab && ./test_progs "
		 "-d bpf_tcp_ca/tcp_ca_kfunc,bpf_cookie/perf_event 2>&1", "Summary");
}

static void selftests_hid(void)
{
	/* The verifier of 6.12.117 refuses its program, whose buffer has a size beyond 32 bits. */
	selftest("hid_bpf", "/lab/hid_bpf $(uname -r | grep -q '^6\\.12' && "
		 "echo -T test_rdesc_fixup_get_data_overflow) 2>&1", "# PASSED");
}

const struct lab_test tool_tests[] = {
	{ "bpftool-link", bpftool_link },
	{ "selftests", selftests },
	{ "selftests-hid", selftests_hid },
	{}
};
