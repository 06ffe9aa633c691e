/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Runs each file of the named directories through a target once: the seeds in `make test`, without libFuzzer.
 * Prints TAP. A finding ends the program. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_file(const char *path)
{
	static uint8_t buf[1 << 20];
	FILE *f = fopen(path, "rb");
	uint8_t *exact;
	size_t n;

	if (!f) {
		fprintf(stderr, "%s: cannot be read\n", path);
		return -1;
	}
	n = fread(buf, 1, sizeof buf, f);
	fclose(f);
	exact = malloc(n ? n : 1);	/* so that reading past the end is seen */
	if (!exact)
		return -1;
	memcpy(exact, buf, n);
	fprintf(stderr, "# %s\n", path);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned n = 0;
	int bad = 0;

	for (int i = 1; i < argc; i++) {
		struct dirent **names = NULL;
		int count = scandir(argv[i], &names, NULL, alphasort);
		char path[4096];

		if (count < 0)
			bad = -1;
		for (int k = 0; k < count; k++) {
			if (names[k]->d_name[0] != '.') {
				snprintf(path, sizeof path, "%s/%s", argv[i], names[k]->d_name);
				bad |= run_file(path);
				n++;
			}
			free(names[k]);
		}
		free(names);
	}
	printf("%sok 1 - %u seeds\n1..1\n", bad || n == 0 ? "not " : "", n);
	return bad || n == 0 ? 1 : 0;
}
