/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/metric.h - the fixed set of counters and gauges of a process.
 *
 * Names are the Prometheus names less the "hf_" prefix. The set of a program is one X-macro table given
 * to hf_metrics_init(); cells are relaxed atomics, so any thread may add. No per-child series. */
#pragma once
#include "core/buf.h"
#include <stdint.h>

enum hf_metric_kind { HF_METRIC_COUNTER, HF_METRIC_GAUGE };
struct hf_metric_def {
	const char *name;	/* "mqtt_malformed_total" */
	enum hf_metric_kind kind;
	const char *help;
};
/* Once at start, before other threads. defs must outlive the process; n <= HF_METRIC_MAX. */
#define HF_METRIC_MAX 128
void hf_metrics_init(const struct hf_metric_def *defs, unsigned n);
void hf_metric_add(unsigned id, int64_t delta);
void hf_metric_set(unsigned id, int64_t value);
int64_t hf_metric_get(unsigned id);
unsigned hf_metrics_count(void);
const struct hf_metric_def *hf_metric_def(unsigned id);
void hf_metrics_render(struct hf_buf *out);	/* Prometheus text exposition */
