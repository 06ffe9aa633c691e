/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The AMQP head: a client's bytes from the first on. First byte: 1 = behind a SASL PLAIN login of the device, 2 = of the
 * policy that may do everything. */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "fuzz.h"
#include "hub/amqp/amqp.h"
#include "hub/model/clients.h"
#include "net/listener.h"

#include <stdlib.h>

static struct hub_amqp *amqp;
static const struct hub_ident *ident;
static struct hf_buf logins[3] = { { .cap = 4096 }, { .cap = 4096 }, { .cap = 4096 } };

static void stop(void)
{
	hub_amqp_stop(amqp);
	hub_amqp_destroy(&amqp);
	for (unsigned i = 0; i < HF_ARRAY_LEN(logins); i++)
		hf_buf_fini(&logins[i]);
}

static void put_ident(const char *device, const char *module)
{
	json_t *doc = json_object();
	struct hub_error err;

	FUZZ_CHECK(hub_ident_put(fuzz_model(), device, module, doc, NULL, NULL, &err) == 0);
	json_decref(doc);
}

/* SASL header and sasl-init with mechanism PLAIN. */
static void put_login(struct hf_buf *out, const char *user, const char *resource, const char *key, const char *policy)
{
	static const uint8_t header[8] = "AMQP\3\1", init[] = { 0x00, 0x53, 0x41, 0xd0 };
	struct hf_buf token = HF_BUF_INIT(4096);
	uint32_t answer, list;

	FUZZ_CHECK(hf_sas_create(resource, key, policy, hf_clock_wall_s() + 86400, &token) == 0);
	answer = (uint32_t)(strlen(user) + hf_buf_len(&token) + 2);
	list = 4 + 7 + 5 + answer;
	hf_buf_put(out, header, sizeof header);
	hf_buf_be32(out, 8 + sizeof init + 4 + list);
	hf_buf_be32(out, 0x02010000);
	hf_buf_put(out, init, sizeof init);
	hf_buf_be32(out, list);
	hf_buf_be32(out, 2);
	hf_buf_puts(out, "\xa3\x05PLAIN\xb0");
	hf_buf_be32(out, answer);
	hf_buf_u8(out, 0);
	hf_buf_puts(out, user);
	hf_buf_u8(out, 0);
	hf_buf_put_span(out, hf_buf_span(&token));
	hf_buf_fini(&token);
}

static void start(void)
{
	static struct hub_conn_limit limit = { .max = 4 };
	struct hub_model *m = fuzz_model();
	struct hub_amqp_cfg cfg = { .limit = &limit };

	hf_log_set_level(HF_LOG_ERR);
	put_ident("dev", NULL);
	put_ident("dev", "mod");
	fuzz_commit();
	ident = hub_ident_find(m, hf_span_str("dev"));
	put_login(&logins[1], "dev@sas.hub", "hub.test/devices/dev", ident->primary_key, NULL);
	put_login(&logins[2], "iothubowner@sas.root.hub", "hub.test", hub_policy_find(m, "iothubowner")->primary_key, "iothubowner");
	FUZZ_CHECK(hf_listen_tcp("127.0.0.1:0", false, &cfg.listen_fd) == 0);	/* nobody comes that way */
	FUZZ_CHECK(hub_amqp_create(fuzz_loop(), m, &cfg, &amqp) == 0);
	atexit(stop);
}

static void take(void *arg, struct hf_conn *conn)
{
	(void)arg;
	hub_amqp_adopt(amqp, conn);
}

static unsigned count(void *arg)
{
	(void)arg;
	return hub_amqp_count(amqp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_buf in = HF_BUF_INIT(1 << 20);
	struct hub_error err;
	json_t *props;

	if (size == 0)
		return 0;
	if (!amqp)
		start();
	if (hub_c2d_count(fuzz_model(), "dev") < 2) {
		props = json_pack("{ss ss s{ss}}", "messageId", "m", "ack", "full", "properties", "a", "b c");
		FUZZ_CHECK(hub_c2d_send(fuzz_model(), "dev", props, hf_span_str("body"), &err) == 0);
		json_decref(props);
	}
	hf_buf_put_span(&in, hf_buf_span(&logins[data[0] % HF_ARRAY_LEN(logins)]));
	hf_buf_put(&in, data + 1, size - 1);
	fuzz_head(hf_buf_span(&in), take, count, NULL);
	FUZZ_CHECK(ident->connections == 0 && hub_clients_count(fuzz_model()) == 0);
	hf_buf_fini(&in);
	return 0;
}
