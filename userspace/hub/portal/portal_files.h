/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/portal/portal_files.h - the files of userspace/hub/portal/ in the binary; scripts/embed writes the table. */
#pragma once
#include <stdint.h>

struct hub_portal_file {
	const char *name;		/* NULL ends the table */
	const uint8_t *begin, *end;
	const char *etag;		/* with quotes; of the content */
};
extern const struct hub_portal_file hub_portal_files[];
