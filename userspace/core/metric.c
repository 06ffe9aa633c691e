/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/metric.h"
#include "core/util.h"
#include <stdatomic.h>

static struct {
	const struct hf_metric_def *defs;
	unsigned n;
	_Atomic int64_t cells[HF_METRIC_MAX];
} reg;

void hf_metrics_init(const struct hf_metric_def *defs, unsigned n)
{
	assert(n <= HF_METRIC_MAX);
	reg.defs = defs;
	reg.n = n;
}

void hf_metric_add(unsigned id, int64_t delta)
{
	if (id < HF_METRIC_MAX)
		atomic_fetch_add_explicit(&reg.cells[id], delta, memory_order_relaxed);
}

void hf_metric_set(unsigned id, int64_t value)
{
	if (id < HF_METRIC_MAX)
		atomic_store_explicit(&reg.cells[id], value, memory_order_relaxed);
}

int64_t hf_metric_get(unsigned id)
{
	return id < HF_METRIC_MAX ? atomic_load_explicit(&reg.cells[id], memory_order_relaxed) : 0;
}

unsigned hf_metrics_count(void)
{
	return reg.n;
}

const struct hf_metric_def *hf_metric_def(unsigned id)
{
	return id < reg.n ? &reg.defs[id] : NULL;
}

void hf_metrics_render(struct hf_buf *out)
{
	for (unsigned i = 0; i < reg.n; i++) {
		const struct hf_metric_def *d = &reg.defs[i];

		hf_buf_printf(out, "# HELP hf_%s %s\n# TYPE hf_%s %s\nhf_%s %lld\n", d->name, d->help, d->name,
			      d->kind == HF_METRIC_COUNTER ? "counter" : "gauge", d->name, (long long)hf_metric_get(i));
	}
}
