/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ready lists: a ring that gives its memory back when it is empty. */
#include "upstream/pump/pump_int.h"
#include <errno.h>
#include <stdlib.h>

struct hf_pump_entry *hf_ring_at(const struct hf_pump_ring *r, unsigned i)
{
	return &r->e[(r->head + i) & (r->cap - 1)];
}

static int make_room(struct hf_pump_ring *r)
{
	struct hf_pump_entry *e;
	unsigned cap;

	if (r->n < r->cap)
		return 0;
	cap = r->cap ? r->cap * 2 : 16;
	e = malloc(cap * sizeof *e);
	if (!e)
		return -ENOMEM;
	for (unsigned i = 0; i < r->n; i++)
		e[i] = *hf_ring_at(r, i);
	free(r->e);
	*r = (struct hf_pump_ring){ .e = e, .n = r->n, .cap = cap };
	return 0;
}

int hf_ring_push(struct hf_pump_ring *r, const struct hf_pump_entry *e)
{
	int err = make_room(r);

	if (err)
		return err;
	*hf_ring_at(r, r->n) = *e;
	r->n++;
	return 0;
}

void hf_ring_pop(struct hf_pump_ring *r)
{
	r->head = (r->head + 1) & (r->cap - 1);
	if (--r->n == 0) {
		free(r->e);
		*r = (struct hf_pump_ring){ 0 };
	}
}

void hf_ring_remove(struct hf_pump_ring *r, unsigned i)
{
	for (; i > 0; i--)	/* it is nearly always the first */
		*hf_ring_at(r, i) = *hf_ring_at(r, i - 1);
	hf_ring_pop(r);
}
