/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The WebSocket framing of a connection whose owner sends back what it gets. First byte: how many of the bytes came early,
 * together with the upgrade request. */
#include "core/util.h"
#include "fuzz.h"
#include "ws/ws.h"

static struct { unsigned open; size_t received; } owner;
static struct hf_span early;

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	(void)arg;
	owner.received += in.len;
	if (!hf_conn_write(c, in))
		hf_conn_close(c);
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	(void)arg;
	(void)c;
	(void)err;
	(void)detail;
	owner.open--;
}

static void take(void *arg, struct hf_conn *conn)
{
	static const struct hf_conn_ops ops = { .data = on_data, .closed = on_closed };

	(void)arg;
	owner.open++;
	hf_conn_set_ops(conn, &ops, NULL);
	FUZZ_CHECK(hf_ws_attach(conn, early) == 0);
}

static unsigned count(void *arg)
{
	(void)arg;
	return owner.open;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n;

	if (size == 0)
		return 0;
	n = hf_min((size_t)data[0], size - 1);
	owner.received = 0;
	early = hf_span(data + 1, n);
	fuzz_head(hf_span(data + 1 + n, size - 1 - n), take, count, NULL);
	FUZZ_CHECK(owner.received < size);	/* frames have heads */
	return 0;
}
