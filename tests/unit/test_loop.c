/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "loop/inbox.h"
#include "loop/loop.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { PRODUCERS = 4, MAILS = 100000 };
struct numbered {
	struct hf_mail mail;
	unsigned producer, n;
};
static struct {
	struct hf_loop *loop;
	struct hf_inbox *inbox;
	unsigned next[PRODUCERS], total;
	int bad;
} st;

static void on_mail(struct hf_mail *mail)
{
	struct numbered *m = (struct numbered *)mail;

	if (st.next[m->producer]++ != m->n)
		st.bad++;
	free(m);
	if (++st.total == PRODUCERS * MAILS)
		hf_loop_stop(st.loop);
}

static void *produce(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < MAILS; i++) {
		struct numbered *m = malloc(sizeof *m);

		*m = (struct numbered){ .mail.fn = on_mail, .producer = id, .n = i };
		hf_inbox_post(st.inbox, &m->mail);
	}
	return NULL;
}

static void test_inbox_keeps_order_per_producer(void **state)
{
	pthread_t t[PRODUCERS];

	(void)state;
	assert_int_equal(hf_loop_create(&st.loop), 0);
	assert_int_equal(hf_inbox_create(st.loop, false, &st.inbox), 0);
	for (uintptr_t i = 0; i < PRODUCERS; i++)
		pthread_create(&t[i], NULL, produce, (void *)i);
	hf_loop_run(st.loop);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(st.bad, 0);
	assert_int_equal(st.total, PRODUCERS * MAILS);
	hf_inbox_destroy(&st.inbox);
	hf_loop_destroy(&st.loop);
}

static void test_fd_inbox_chain_order(void **state)
{
	struct numbered m[5] = { 0 };
	struct hf_inbox *inbox;
	unsigned n = 0;

	(void)state;
	assert_int_equal(hf_inbox_create_fd(&inbox), 0);
	for (unsigned i = 0; i < 5; i++)
		m[i].n = i;
	hf_inbox_post(inbox, &m[0].mail);
	for (unsigned i = 1; i < 4; i++)
		m[i].mail.next = &m[i + 1].mail;
	hf_inbox_post_chain(inbox, &m[1].mail, &m[4].mail);
	for (struct hf_mail *p = hf_inbox_take(inbox); p; p = p->next)
		assert_int_equal(((struct numbered *)p)->n, n++);
	assert_int_equal(n, 5);
	assert_null(hf_inbox_take(inbox));
	hf_inbox_destroy(&inbox);
}

static struct { struct hf_loop *loop; struct hf_task end, next; struct hf_timer *timer; int turns; char log[16]; int n; } ts;

static void log_end(void *arg) { (void)arg; ts.log[ts.n++] = 'e'; }
static void log_next(void *arg)
{
	(void)arg;
	ts.log[ts.n++] = 'n';
	if (++ts.turns < 2) {
		hf_task_at_turn_end(ts.loop, &ts.end);
		hf_task_next_turn(ts.loop, &ts.next);
	} else {
		hf_loop_stop(ts.loop);
	}
}
static void on_tick(void *arg)
{
	(void)arg;
	ts.log[ts.n++] = 't';
	hf_task_next_turn(ts.loop, &ts.next);
	hf_task_at_turn_end(ts.loop, &ts.end);
	hf_task_at_turn_end(ts.loop, &ts.end);	/* twice is once */
}

static void test_tasks_run_in_their_turn(void **state)
{
	(void)state;
	assert_int_equal(hf_loop_create(&ts.loop), 0);
	hf_task_init(&ts.end, log_end, NULL);
	hf_task_init(&ts.next, log_next, NULL);
	assert_int_equal(hf_timer_create(ts.loop, on_tick, NULL, &ts.timer), 0);
	hf_timer_start(ts.timer, 1, 0);
	hf_loop_run(ts.loop);
	hf_timer_destroy(&ts.timer);
	hf_loop_destroy(&ts.loop);
	/* idle callbacks run before prepare: the next turn's task comes first, its turn end right after */
	assert_int_equal(ts.log[0], 't');
	assert_int_equal(ts.turns, 2);
	assert_non_null(strchr(ts.log, 'e'));
}

static struct { struct hf_loop *loop; struct hf_watch *watch; int fds[2]; int got; } ws;

static void on_readable(void *arg, int events, int err)
{
	char c;

	(void)arg;
	assert_int_equal(err, 0);
	assert_true(events & HF_READABLE);
	assert_int_equal(read(ws.fds[0], &c, 1), 1);
	ws.got++;
	hf_watch_destroy(&ws.watch);	/* no callback after this */
	hf_loop_stop(ws.loop);
}

static void test_watch_fires_once_and_closes(void **state)
{
	(void)state;
	assert_int_equal(pipe(ws.fds), 0);
	assert_int_equal(hf_loop_create(&ws.loop), 0);
	assert_int_equal(hf_watch_create(ws.loop, ws.fds[0], on_readable, NULL, &ws.watch), 0);
	assert_int_equal(hf_watch_set(ws.watch, HF_READABLE), 0);
	assert_int_equal(write(ws.fds[1], "xy", 2), 2);
	hf_loop_run(ws.loop);
	assert_int_equal(ws.got, 1);
	hf_loop_destroy(&ws.loop);
	close(ws.fds[0]);
	close(ws.fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inbox_keeps_order_per_producer),
		cmocka_unit_test(test_fd_inbox_chain_order),
		cmocka_unit_test(test_tasks_run_in_their_turn),
		cmocka_unit_test(test_watch_fires_once_and_closes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
