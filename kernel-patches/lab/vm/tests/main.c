// SPDX-License-Identifier: GPL-2.0
/* vmtest: runs tests of the list by their names. */
#include "lab.h"

#include <stdio.h>
#include <string.h>

/* vmtest SERIES BASE TEST... */
int main(int argc, char **argv)
{
	const struct lab_test * const groups[] = {
		state_tests, cookie_tests, lifetime_tests, scx_tests, assoc_tests,
		hid_tests, tool_tests,
	};
	const struct lab_test *test;
	int i;
	size_t g;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 4) {
		for (g = 0; g < sizeof(groups) / sizeof(*groups); g++)
			for (test = groups[g]; test->name; test++)
				puts(test->name);
		return 2;
	}
	lab_series = argv[1];
	lab_base = argv[2];
	for (i = 3; i < argc; i++) {
		for (g = 0; g < sizeof(groups) / sizeof(*groups); g++)
			for (test = groups[g]; test->name; test++)
				if (!strcmp(test->name, argv[i]))
					lab_run(test);
	}
	return 0;
}
