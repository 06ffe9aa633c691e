/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "msg/msg.h"
#include "core/util.h"
#include <holdfast/err.h>

struct hf_msg *hf_msg_create(struct hf_span from, struct hf_span props, struct hf_span body, uint16_t flags)
{
	struct hf_msg *m;

	if (from.len > HF_IDENT_MAX || props.len > HF_MSG_MAX_SIZE || body.len > HF_MSG_MAX_SIZE)
		return NULL;
	m = malloc(sizeof *m + from.len + props.len + body.len);
	if (!m)
		return NULL;
	atomic_init(&m->refs, 1);
	m->from_len = (uint16_t)from.len;
	m->flags = flags;
	m->props_len = (uint32_t)props.len;
	m->body_len = (uint32_t)body.len;
	if (from.len)
		memcpy(m->data, from.ptr, from.len);
	if (props.len)
		memcpy(m->data + from.len, props.ptr, props.len);
	if (body.len)
		memcpy(m->data + from.len + props.len, body.ptr, body.len);
	return m;
}

struct hf_msg *hf_msg_ref(struct hf_msg *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void hf_msg_unref(struct hf_msg **m)
{
	if (*m && atomic_fetch_sub_explicit(&(*m)->refs, 1, memory_order_acq_rel) == 1)
		free(*m);
	*m = NULL;
}
