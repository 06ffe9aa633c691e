/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Numbers that clients compare: etags of twins, sequence numbers of queues. What carried the highest one may be gone after
 * a restart, so they are stored apart, with the changes that used them. */
#include "core/util.h"
#include "hub/model/model_int.h"

#include <holdfast/err.h>

static const char key[] = "counters";

static uint64_t *counter(struct hub_model *m, unsigned i)
{
	return i == HUB_C_TWIN_ETAG ? &m->twin_etag : i == HUB_C_C2D_SEQ ? &m->c2d_seq : &m->feedback_seq;
}

int hub_counters_load(struct hub_model *m)
{
	struct hf_span value;
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_get(txn, HUB_T_META, hf_span_str(key), &value);
	for (unsigned i = 0; r == 0 && i < HUB_COUNTERS && value.len >= 8 * (i + 1); i++) {
		m->stored_counters[i] = hub_key_seq(hf_span_skip(value, 8 * i));
		*counter(m, i) = hf_max(*counter(m, i), m->stored_counters[i]);
	}
	return r == HF_ENOTFOUND ? 0 : r;
}

int hub_counters_write(struct hub_model *m, struct hf_txn *txn)
{
	uint8_t row[8 * HUB_COUNTERS];
	bool changed = false;

	for (unsigned i = 0; i < HUB_COUNTERS; i++) {
		hub_seq_key(*counter(m, i), row + 8 * i);
		changed = changed || *counter(m, i) != m->stored_counters[i];
	}
	return changed ? hf_txn_put(txn, HUB_T_META, hf_span_str(key), hf_span(row, sizeof row)) : 0;
}

void hub_counters_stored(struct hub_model *m)
{
	for (unsigned i = 0; i < HUB_COUNTERS; i++)
		m->stored_counters[i] = *counter(m, i);
}
