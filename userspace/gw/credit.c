/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gw/credit.h"
#include "core/metric.h"

void hf_credit_init(struct hf_credit *c, unsigned n_max, size_t bytes_max, unsigned metric_n, unsigned metric_bytes,
		    void (*wake)(struct hf_list *node))
{
	*c = (struct hf_credit){ .n_max = n_max, .bytes_max = bytes_max, .metric_n = metric_n, .metric_bytes = metric_bytes,
				 .wake = wake };
	hf_list_init(&c->waiting);
}

bool hf_credit_has(const struct hf_credit *c, size_t bytes)
{
	return c->n < c->n_max && (!c->bytes || c->bytes + bytes <= c->bytes_max);
}

static void count(const struct hf_credit *c, int sign, size_t bytes)
{
	hf_metric_add(c->metric_n, sign);
	hf_metric_add(c->metric_bytes, sign * (int64_t)bytes);
}

void hf_credit_take(struct hf_credit *c, size_t bytes)
{
	c->n++;
	c->bytes += bytes;
	count(c, 1, bytes);
}

void hf_credit_give(struct hf_credit *c, size_t bytes)
{
	c->n--;
	c->bytes -= bytes;
	count(c, -1, bytes);
	if (c->n > c->n_max / 4 * 3 || c->bytes > c->bytes_max / 4 * 3)
		return;
	while (!hf_list_empty(&c->waiting)) {
		struct hf_list *node = c->waiting.next;

		hf_list_del(node);
		c->wake(node);
	}
}
