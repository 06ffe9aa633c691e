/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/list.h - intrusive doubly linked list with a sentinel head. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct hf_list {
	struct hf_list *next, *prev;
};
#define hf_container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define hf_list_for_each_safe(pos, tmp, head)                                                      \
	for (pos = (head)->next, tmp = pos->next; pos != (head); pos = tmp, tmp = pos->next)
#define hf_list_for_each(pos, head) for (pos = (head)->next; pos != (head); pos = pos->next)

static inline void hf_list_init(struct hf_list *h) { h->next = h->prev = h; }
static inline bool hf_list_empty(const struct hf_list *h) { return h->next == h; }
static inline bool hf_list_linked(const struct hf_list *n) { return n->next && n->next != n; }
static inline void hf_list_add_tail(struct hf_list *h, struct hf_list *n)
{
	n->prev = h->prev;
	n->next = h;
	h->prev->next = n;
	h->prev = n;
}
static inline void hf_list_add_head(struct hf_list *h, struct hf_list *n)
{
	n->next = h->next;
	n->prev = h;
	h->next->prev = n;
	h->next = n;
}
/* Removes and re-initialises; safe on a node that is not linked but initialised. */
static inline void hf_list_del(struct hf_list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = n;
}
