/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The MQTT head: packets on a live session. First byte: 1 = after a good CONNECT, 2 = with a persistent session. */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "fuzz.h"
#include "hub/mqtt/dev.h"
#include "hub/metrics.h"
#include "mqtt/mqtt_codec.h"
#include "net/listener.h"

#include <stdlib.h>

static struct hub_dev *dev;
static const struct hub_ident *ident;

static void stop(void)
{
	hub_dev_stop(dev);
	hub_dev_destroy(&dev);
}

static void start(void)
{
	static struct hub_conn_limit limit = { .max = 4 };
	struct hub_model *m = fuzz_model();
	struct hub_dev_cfg cfg = { .host = "hub.test", .limit = &limit };
	json_t *doc = json_object();
	struct hub_error err;

	hf_log_set_level(HF_LOG_ERR);
	FUZZ_CHECK(hub_ident_put(m, "dev", NULL, doc, NULL, NULL, &err) == 0);
	json_decref(doc);
	fuzz_commit();
	ident = hub_ident_find(m, hf_span_str("dev"));
	FUZZ_CHECK(hf_listen_tcp("127.0.0.1:0", false, &cfg.listen_fd) == 0);	/* nobody comes that way */
	FUZZ_CHECK(hub_dev_create(fuzz_loop(), m, &cfg, &dev) == 0);
	atexit(stop);
}

static void put_connect(struct hf_buf *out, bool clean)
{
	static struct hf_buf token = { .cap = 4096 };
	struct hf_mqtt_connect c = { .level = 4, .clean_session = clean, .has_user = true, .has_password = true,
				     .client_id = hf_span_str("dev"), .user = hf_span_str("hub.test/dev/?api-version=2021-04-12") };

	if (hf_buf_len(&token) == 0)
		FUZZ_CHECK(hf_sas_create("hub.test/devices/dev", ident->primary_key, NULL, hf_clock_wall_s() + 86400, &token) == 0);
	c.password = hf_buf_span(&token);
	hf_mqtt_put_connect(out, &c);
}

static void take(void *arg, struct hf_conn *conn)
{
	(void)arg;
	hub_dev_adopt(dev, conn);
}

static unsigned count(void *arg)
{
	(void)arg;
	return hub_dev_count(dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_buf in = HF_BUF_INIT(1 << 20);
	struct hub_error err;
	json_t *props;

	if (size == 0)
		return 0;
	if (!dev)
		start();
	if (hub_c2d_count(fuzz_model(), "dev") < 2) {
		props = json_pack("{ss ss s{ss}}", "messageId", "m", "ack", "full", "properties", "a", "b c");
		FUZZ_CHECK(hub_c2d_send(fuzz_model(), "dev", props, hf_span_str("body"), &err) == 0);
		json_decref(props);
	}
	if (data[0] & 1)
		put_connect(&in, !(data[0] & 2));
	hf_buf_put(&in, data + 1, size - 1);
	fuzz_head(hf_buf_span(&in), take, count, NULL);
	FUZZ_CHECK(ident->connections == 0);
	hf_buf_fini(&in);
	return 0;
}
