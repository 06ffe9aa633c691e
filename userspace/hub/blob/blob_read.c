/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading a blob through its files. */
#include "core/util.h"
#include "hub/blob/blob_int.h"

#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <stdio.h>

struct hub_blob_reader {
	struct hub_blob_record record;
	int dir, fd;		/* dir is a duplicate: the reader may outlive the model */
	unsigned at;		/* the part of fd, or the next one when fd is -1 */
	uint64_t offset;	/* in it */
};

int hub_blob_open(struct hub_model *m, const char *name, uint64_t offset, struct hub_blob_reader **ret_reader)
{
	struct hub_blob_reader *r = calloc(1, sizeof *r);
	int e;

	if (!r)
		return -ENOMEM;
	e = hub_blob_load_record(m, name, &r->record);
	if (e != 0) {
		free(r);
		return e;
	}
	r->fd = -1;
	while (r->at < r->record.blob.n_parts && offset >= r->record.parts[r->at].size)
		offset -= r->record.parts[r->at++].size;
	r->offset = offset;
	r->dir = fcntl(m->blobs->dir, F_DUPFD_CLOEXEC, 0);
	if (r->dir < 0) {
		e = -errno;
		hub_blob_close(&r);
		return e;
	}
	*ret_reader = r;
	return 0;
}

static int open_part(struct hub_blob_reader *r)
{
	char name[32];

	snprintf(name, sizeof name, "%016llx", (unsigned long long)r->record.parts[r->at].file);
	r->fd = openat(r->dir, name, O_RDONLY | O_CLOEXEC);
	return r->fd < 0 ? -errno : 0;
}

static void next_part(struct hub_blob_reader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	r->offset = 0;
	r->at++;
}

int hub_blob_read(struct hub_blob_reader *r, uint8_t *p, size_t cap, size_t *ret_n)
{
	ssize_t n;
	int e;

	while (r->at < r->record.blob.n_parts && r->offset >= r->record.parts[r->at].size)
		next_part(r);
	*ret_n = 0;
	if (r->at == r->record.blob.n_parts)
		return 0;
	if (r->fd < 0 && (e = open_part(r)) != 0)
		return e;
	do {
		n = pread(r->fd, p, (size_t)hf_min((uint64_t)cap, r->record.parts[r->at].size - r->offset), (off_t)r->offset);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : HF_ECORRUPT;
	r->offset += (uint64_t)n;
	*ret_n = (size_t)n;
	return 0;
}

void hub_blob_close(struct hub_blob_reader **pr)
{
	struct hub_blob_reader *r = hf_take(*pr);

	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	if (r->dir >= 0)
		close(r->dir);
	hub_blob_record_fini(&r->record);
	free(r);
}
