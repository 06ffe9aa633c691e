/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lock-free multi-producer stack; the consumer swaps it out whole and reverses it. */
#include "loop/inbox.h"
#include "core/util.h"
#include "loop/loop_int.h"
#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

struct hf_inbox {
	_Atomic(struct hf_mail *) top;
	int fd;			/* eventfd of a plain thread, else -1 */
	uv_async_t *async;	/* heap: outlives the inbox until libuv lets go */
	struct hf_loop *loop;
	struct hf_list urgent;	/* node in loop->urgent_inboxes */
	bool draining, gone;
};

static struct hf_mail *take_all(struct hf_inbox *inbox)
{
	struct hf_mail *top = atomic_exchange_explicit(&inbox->top, NULL, memory_order_acquire), *first = NULL;

	while (top) {
		struct hf_mail *next = top->next;

		top->next = first;
		first = top;
		top = next;
	}
	return first;
}

static void deliver(struct hf_inbox *inbox)
{
	struct hf_mail *mail = take_all(inbox);

	inbox->draining = true;
	while (mail) {
		struct hf_mail *next = mail->next;	/* fn may free or re-post it */

		mail->fn(mail);
		mail = next;
	}
	inbox->draining = false;
	if (inbox->gone)
		free(inbox);
}

void hf_inbox_drain_urgent(struct hf_loop *loop)
{
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &loop->urgent_inboxes) {
		struct hf_inbox *inbox = hf_container_of(pos, struct hf_inbox, urgent);

		if (!inbox->draining)
			deliver(inbox);
	}
}

static void on_async(uv_async_t *async)
{
	struct hf_inbox *inbox = async->data;

	if (!inbox)
		return;
	hf_inbox_drain_urgent(inbox->loop);
	if (!hf_list_linked(&inbox->urgent))
		deliver(inbox);
}

int hf_inbox_create(struct hf_loop *loop, bool urgent, struct hf_inbox **ret_inbox)
{
	struct hf_inbox *inbox = calloc(1, sizeof *inbox);
	int r;

	if (!inbox || !(inbox->async = calloc(1, sizeof *inbox->async))) {
		free(inbox);
		return -ENOMEM;
	}
	inbox->fd = -1;
	inbox->loop = loop;
	hf_list_init(&inbox->urgent);
	r = uv_async_init(&loop->uv, inbox->async, on_async);
	if (r != 0) {
		free(inbox->async);
		free(inbox);
		return hf_uv_err(r);
	}
	inbox->async->data = inbox;
	if (urgent)
		hf_list_add_tail(&loop->urgent_inboxes, &inbox->urgent);
	*ret_inbox = inbox;
	return 0;
}

int hf_inbox_create_fd(struct hf_inbox **ret_inbox)
{
	struct hf_inbox *inbox = calloc(1, sizeof *inbox);

	if (!inbox)
		return -ENOMEM;
	hf_list_init(&inbox->urgent);
	inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (inbox->fd < 0) {
		free(inbox);
		return -errno;
	}
	*ret_inbox = inbox;
	return 0;
}

int hf_inbox_fd(const struct hf_inbox *inbox)
{
	return inbox->fd;
}

struct hf_mail *hf_inbox_take(struct hf_inbox *inbox)
{
	uint64_t count;

	/* Clear first: a post after this is either taken below or wakes again. */
	if (read(inbox->fd, &count, sizeof count) < 0 && errno != EAGAIN)
		abort();
	return take_all(inbox);
}

void hf_inbox_destroy(struct hf_inbox **pinbox)
{
	struct hf_inbox *inbox = *pinbox;

	if (!inbox)
		return;
	*pinbox = NULL;
	hf_list_del(&inbox->urgent);
	if (inbox->async) {
		inbox->async->data = NULL;
		hf_loop_close_handle((uv_handle_t *)inbox->async);
	}
	if (inbox->fd >= 0)
		close(inbox->fd);
	if (inbox->draining)
		inbox->gone = true;	/* destroyed by one of its mails: freed after the batch */
	else
		free(inbox);
}

static void wake(struct hf_inbox *inbox)
{
	uint64_t one = 1;

	if (inbox->async)
		uv_async_send(inbox->async);
	else if (write(inbox->fd, &one, sizeof one) < 0 && errno != EAGAIN)
		abort();
}

void hf_inbox_post_chain(struct hf_inbox *inbox, struct hf_mail *first, struct hf_mail *last)
{
	struct hf_mail *node = first, *rev = NULL, *top;

	/* The stack is newest first: reverse the chain, so that `last` is on top and `first` lowest. */
	last->next = NULL;
	while (node) {
		struct hf_mail *next = node->next;

		node->next = rev;
		rev = node;
		node = next;
	}
	top = atomic_load_explicit(&inbox->top, memory_order_relaxed);
	do {
		first->next = top;
	} while (!atomic_compare_exchange_weak_explicit(&inbox->top, &top, rev, memory_order_release,
							memory_order_relaxed));
	if (!top)
		wake(inbox);
}

void hf_inbox_post(struct hf_inbox *inbox, struct hf_mail *mail)
{
	hf_inbox_post_chain(inbox, mail, mail);
}
