/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the peer of a connection has proved: tokens and its certificate (iothub-protocol 2.1, 2.2, 2.8, 6). */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_LINKS 8192		/* of a connection with a claim; without any: see amqp_srv.c */

/* --- claims ----------------------------------------------------------------------------------------------------- */

static bool says_the_same(const struct hub_claim *a, const struct hub_claim *b)
{
	return a->rights == b->rights && strcmp(a->path, b->path) == 0;
}

static int add_policy(struct hub_amqp_conn *c, const struct hub_claim *claim)
{
	unsigned i = 0;

	while (i < c->n_policies && !says_the_same(&c->policies[i], claim))
		i++;
	if (i == HUB_AMQP_MAX_POLICIES)
		return HF_ELIMIT;
	if (i < c->n_policies) {
		c->policies[i].expiry_s = hf_max(c->policies[i].expiry_s, claim->expiry_s);
		return 0;
	}
	c->policies[c->n_policies++] = *claim;
	return 0;
}

static int add_own(struct hub_amqp_conn *c, const struct hub_claim *claim)
{
	struct hub_claim *have = hf_map_get(c->claims, hf_span_str(claim->ident));

	if (have) {
		have->expiry_s = hf_max(have->expiry_s, claim->expiry_s);
		return 0;
	}
	if (hf_map_count(c->claims) >= HUB_AMQP_MAX_CLAIMS)
		return HF_ELIMIT;
	have = malloc(sizeof *have);
	if (!have)
		return -ENOMEM;
	*have = *claim;
	if (hf_map_put(c->claims, hf_span_str(claim->ident), have) != 0) {
		free(have);
		return -ENOMEM;
	}
	return 0;
}

int hub_amqp_claim_add(struct hub_amqp_conn *c, const struct hub_claim *claim)
{
	int r = claim->is_policy ? add_policy(c, claim) : add_own(c, claim);

	if (r == 0)
		hf_amqp_set_max_links(c->amqp, MAX_LINKS);
	return r;
}

bool hub_amqp_has_claims(const struct hub_amqp_conn *c)
{
	return c->n_policies || hf_map_count(c->claims);
}

void hub_amqp_claims_expire(struct hub_amqp_conn *c, int64_t wall_s)
{
	struct hf_span key;
	bool ended = false;
	size_t pos = 0;
	void *value;

	for (unsigned i = 0; i < c->n_policies; i++)
		if (wall_s > c->policies[i].expiry_s + HUB_AMQP_GRACE_S) {
			c->policies[i--] = c->policies[--c->n_policies];
			ended = true;
		}
	while (hf_map_next(c->claims, &pos, &key, &value)) {
		struct hub_claim *claim = value;
		struct hub_amqp_login *login;

		if (wall_s <= claim->expiry_s + HUB_AMQP_GRACE_S)
			continue;
		hf_map_remove(c->claims, hf_span_str(claim->ident));
		login = hub_amqp_login_find(c, claim->ident);
		free(claim);
		if (login)
			hub_amqp_login_settle(login);
		ended = true;
	}
	if (ended)
		hub_amqp_recheck(c);
}

void hub_amqp_claims_free(struct hub_amqp_conn *c)
{
	struct hf_span key;
	size_t pos = 0;
	void *claim;

	while (c->claims && hf_map_next(c->claims, &pos, &key, &claim))
		free(claim);
	hf_map_destroy(&c->claims);
}

/* --- what they allow ---------------------------------------------------------------------------------------------- */

const char *hub_amqp_may_serve(struct hub_amqp_conn *c, unsigned right)
{
	for (unsigned i = 0; i < c->n_policies; i++)
		if (c->policies[i].rights & right && hub_claim_covers(&c->policies[i], "", NULL))
			return NULL;
	return c->n_policies ? "no policy on this connection gives the right" : "no policy token on this connection";
}

/* Whose token is needed: of the identity, or of the gateway at the end of the chain. */
static const struct hub_claim *own_claim(struct hub_amqp_conn *c, const struct hub_ident *ident, const char *auth_chain)
{
	const char *last = auth_chain ? strrchr(auth_chain, ';') : NULL;
	char id[HF_IDENT_MAX + 16];

	if (!auth_chain)
		return hf_map_get(c->claims, hf_span_str(ident->id));
	snprintf(id, sizeof id, "%s/$edgeHub", last ? last + 1 : auth_chain);
	return hf_map_get(c->claims, hf_span_str(id));
}

const char *hub_amqp_may_act_as(struct hub_amqp_conn *c, const struct hub_ident *ident, const char *auth_chain,
				const char **ret_auth_type)
{
	const struct hub_claim *own = own_claim(c, ident, auth_chain);
	struct hub_model *m = c->head->model;
	const char *why = hub_amqp_has_claims(c) ? "no token of this identity on the connection" : NULL, *also;

	*ret_auth_type = "sas";
	if (own && !(why = hub_claim_act_as(m, own, ident, auth_chain)))
		return NULL;
	*ret_auth_type = "policy";
	for (unsigned i = 0; i < c->n_policies; i++) {
		also = hub_claim_act_as(m, &c->policies[i], ident, auth_chain);
		if (!also)
			return NULL;
		why = own ? why : also;
	}
	*ret_auth_type = "x509";
	also = hub_cert_act_as(hf_conn_tls(hf_amqp_conn(c->amqp)), ident);
	return also && why ? why : also;
}

/* --- SASL ----------------------------------------------------------------------------------------------------------- */

/* Cuts "@sas.{hub}" or "@sas.root.{hub}" off; the hub by its short name or in full. */
static bool cut_user(const char *host, struct hf_span user, struct hf_span *ret_name, bool *ret_is_policy)
{
	struct hf_span short_name = { 0 }, rest = hf_span_str(host), hub;
	size_t at = user.len;

	hf_span_cut(&rest, '.', &short_name);
	while (at > 0 && user.ptr[at - 1] != '@')
		at--;
	if (at < 2)
		return false;
	*ret_name = hf_span(user.ptr, at - 1);
	hub = hf_span_skip(user, at);
	if (!hf_span_starts(hub, "sas."))
		return false;
	hub = hf_span_skip(hub, 4);
	*ret_is_policy = hf_span_starts(hub, "root.");
	if (*ret_is_policy)
		hub = hf_span_skip(hub, 5);
	return hf_span_ieq(hub, short_name) || hf_span_ieq(hub, hf_span_str(host));
}

static const char *check_plain(struct hub_amqp_conn *c, struct hf_span user, struct hf_span password)
{
	struct hub_model *m = c->head->model;
	const struct hub_ident *ident;
	struct hub_claim claim;
	struct hf_span name;
	bool is_policy;
	const char *why;

	if (!cut_user(hub_model_host(m), user, &name, &is_policy))
		return "user name is not D@sas.HUB or POLICY@sas.root.HUB";
	why = hub_claim_verify(m, password, &claim);
	if (!why && is_policy != claim.is_policy)
		why = "the token is not of the kind that the user name says";
	if (!why && is_policy) {
		struct hf_sas sas;

		if (hf_sas_parse(password, &sas, &why) == 0)
			why = hf_span_eq(sas.skn, name) ? NULL : "the token is of another policy";
	} else if (!why) {
		why = hub_ident_usable(m, name, &ident);
		if (!why)
			why = hub_claim_act_as(m, &claim, ident, NULL);
	}
	if (!why && hub_amqp_claim_add(c, &claim) != 0)
		why = "no memory";
	if (!why)
		c->plain_expiry_s = claim.expiry_s;
	return why;
}

bool hub_amqp_on_sasl(struct hub_amqp_conn *c, const char *mechanism, struct hf_span user, struct hf_span password)
{
	static struct hf_log_limit limit;
	struct hf_tls *tls = hf_conn_tls(hf_amqp_conn(c->amqp));
	const char *why = NULL;

	if (strcmp(mechanism, "PLAIN") == 0)
		why = check_plain(c, user, password);
	else if (strcmp(mechanism, "EXTERNAL") == 0 && (!tls || hf_tls_peer_cert(tls).len == 0))
		why = "no certificate";
	if (!why)
		return true;
	hf_metric_add(HUB_M_AUTH_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.sasl", "%s: %s: %s", hf_conn_peer(hf_amqp_conn(c->amqp)), mechanism, why);
	return false;
}
