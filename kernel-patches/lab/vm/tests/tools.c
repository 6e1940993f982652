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

static void selftests(void)
{
	static char text[65536];
	char *line, *save;
	int status;

	if (access("/lab/test_progs", X_OK)) {
		skip("no test_progs for this kernel");
		return;
	}
	/* tcp_ca_kfunc calls BBR, which the lab's kernels do not have */
	status = output("cd /lab && ./test_progs -d bpf_tcp_ca/tcp_ca_kfunc 2>&1", text,
			sizeof(text));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strstr(line, ":FAIL"))
			printf("# %s\n", line);
		if (!strncmp(line, "Summary", 7))
			note("%s", line);
	}
	check_eq("test_progs", status, 0);
}

const struct lab_test tool_tests[] = {
	{ "bpftool-link", bpftool_link },
	{ "selftests", selftests },
	{}
};
