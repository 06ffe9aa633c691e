/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/metrics.c - the table behind gw/metrics.h. */
#include "gw/metrics.h"
#include "auth/scope.h"

const struct hf_metric_def hf_metric_table[HF_M__COUNT] = {
#define HF_METRIC_ROW(id, name, kind, help) [HF_M_##id] = { name, HF_METRIC_##kind, help },
	HF_METRIC_LIST(HF_METRIC_ROW)
#undef HF_METRIC_ROW
};

_Static_assert(HF_M__COUNT <= HF_METRIC_MAX, "too many metrics");
_Static_assert(HF_M_AUTH_ALLOW + HF_DENY_UNKNOWN == HF_M_AUTH_UNKNOWN &&
	       HF_M_AUTH_ALLOW + HF_DENY_SIGNATURE == HF_M_AUTH_SIGNATURE &&
	       HF_M_AUTH_ALLOW + HF_DENY_CERT == HF_M_AUTH_CERT &&
	       HF_M_AUTH_ALLOW + HF_AUTH_VERDICT__COUNT - 1 == HF_M_AUTH_TYPE,
	       "AUTH rows follow enum hf_auth_verdict");
