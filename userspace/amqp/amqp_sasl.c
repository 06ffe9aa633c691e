/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SASL as IoT Hub does it (iothub-protocol 2.1): MSSBCBS and ANONYMOUS let in whoever shows a token later, EXTERNAL leaves
 * it to the TLS certificate, PLAIN carries the token. One step each. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#include <proton/sasl.h>
#include <proton/sasl_plugin.h>

#define OFFERED "MSSBCBS PLAIN ANONYMOUS EXTERNAL"

static void sasl_free(pn_transport_t *t)
{
	(void)t;
}

static const char *list_mechanisms(pn_transport_t *t)
{
	(void)t;
	return OFFERED;
}

static bool init_server(pn_transport_t *t)
{
	pnx_sasl_set_desired_state(t, SASL_POSTED_MECHANISMS);
	return true;
}

static bool init_client(pn_transport_t *t)
{
	(void)t;
	return false;
}

static void prepare_write(pn_transport_t *t)
{
	(void)t;
}

/* [authzid] NUL user NUL password */
static bool split_plain(struct hf_span in, struct hf_span *ret_user, struct hf_span *ret_password)
{
	struct hf_span authzid;

	return hf_span_cut(&in, '\0', &authzid) && hf_span_cut(&in, '\0', ret_user) && (*ret_password = in, in.len > 0);
}

static void process_init(pn_transport_t *t, const char *mechanism, const pn_bytes_t *recv)
{
	struct hf_amqp *a = pnx_sasl_get_context(t);
	struct hf_span user = { 0 }, password = { 0 };
	bool ok;

	mechanism = mechanism ? mechanism : "";		/* the field may be missing */
	ok = strcmp(mechanism, "MSSBCBS") == 0 || strcmp(mechanism, "ANONYMOUS") == 0 || strcmp(mechanism, "EXTERNAL") == 0;
	if (strcmp(mechanism, "PLAIN") == 0)
		ok = split_plain(hf_span(recv->start, recv->size), &user, &password);
	if (ok)
		ok = a->ops->authenticate(a->arg, mechanism, user, password);
	if (ok)
		pnx_sasl_set_succeeded(t, "peer", NULL);
	else
		pnx_sasl_set_failed(t);
	a->sasl_refused = !ok;
	pnx_sasl_set_desired_state(t, SASL_POSTED_OUTCOME);
}

static void process_response(pn_transport_t *t, const pn_bytes_t *recv)
{
	(void)recv;
	pnx_sasl_set_failed(t);
	pnx_sasl_set_desired_state(t, SASL_POSTED_OUTCOME);
}

static bool process_mechanisms(pn_transport_t *t, const char *mechs)
{
	(void)t;
	(void)mechs;
	return false;
}

static void process_challenge(pn_transport_t *t, const pn_bytes_t *recv)
{
	(void)t;
	(void)recv;
}

static void process_outcome(pn_transport_t *t, const pn_bytes_t *recv)
{
	(void)t;
	(void)recv;
}

static bool can_encrypt(pn_transport_t *t)
{
	(void)t;
	return false;
}

static ssize_t max_encrypt_size(pn_transport_t *t)
{
	(void)t;
	return 0;
}

static ssize_t code(pn_transport_t *t, pn_bytes_t in, pn_bytes_t *out)
{
	(void)t;
	(void)in;
	(void)out;
	return 0;
}

static const pnx_sasl_implementation implementation = {
	sasl_free, list_mechanisms, init_server, init_client, prepare_write, process_init, process_response,
	process_mechanisms, process_challenge, process_outcome, can_encrypt, max_encrypt_size, code, code,
};

void hf_amqp_sasl_init(struct hf_amqp *a)
{
	pn_transport_t *t = a->driver.transport;

	pn_sasl(t);
	pnx_sasl_set_implementation(t, &implementation, a);
	pn_transport_require_auth(t, false);
}
