/* SPDX-License-Identifier: GPL-3.0-or-later */
/* twin/merge.h - JSON merge patch with twin rules: pure functions on jansson values. Any thread. */
#pragma once
#include <jansson.h>

/* Applies patch to target in place: null deletes, objects merge, all else replaces. -ENOMEM. */
int hf_twin_merge(json_t *target, const json_t *patch);
/* Accumulates patch into a pending patch: as above but nulls are kept, so the deletion travels. */
int hf_twin_accumulate(json_t *pending, const json_t *patch);
/* Patch that turns `from` into `to` (removed keys as null); NULL if equal or on ENOMEM (*ret_err tells).
 * Members starting with '$' are ignored. New reference. */
json_t *hf_twin_diff(const json_t *from, const json_t *to, int *ret_err);
/* Limits of edgehub-behaviour 8.5: size, depth 10, names, strings 4096, integers, nulls in arrays.
 * 0 or HF_EINVALID with a text naming the path. doc_len = length of the JSON text. */
int hf_twin_check_patch(const json_t *patch, size_t doc_len, char *ret_reason, size_t reason_cap);
