/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/portal/portal_session.h"
#include "core/util.h"

#include <stdio.h>

#define WINDOW_MS 60000

static void new_token(char out[HUB_PORTAL_TOKEN_SIZE])
{
	snprintf(out, HUB_PORTAL_TOKEN_SIZE, "%016llx%016llx", (unsigned long long)hf_random_u64(),
		 (unsigned long long)hf_random_u64());
}

void hub_portal_sessions_init(struct hub_portal_sessions *ss, uint64_t idle_ms, uint64_t max_ms)
{
	*ss = (struct hub_portal_sessions){ .idle_ms = idle_ms, .max_ms = max_ms };
	hf_list_init(&ss->all);
}

void hub_portal_session_close(struct hub_portal_sessions *ss, struct hub_portal_session *s)
{
	hf_list_del(&s->node);
	ss->n--;
	explicit_bzero(s, sizeof *s);
	free(s);
}

static struct hub_portal_session *oldest(const struct hub_portal_sessions *ss)
{
	return hf_container_of(ss->all.next, struct hub_portal_session, node);
}

void hub_portal_sessions_fini(struct hub_portal_sessions *ss)
{
	while (ss->n)
		hub_portal_session_close(ss, oldest(ss));
}

struct hub_portal_session *hub_portal_session_open(struct hub_portal_sessions *ss, const char *policy, unsigned rights,
						   uint64_t now_ms)
{
	struct hub_portal_session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	if (ss->n == HUB_PORTAL_SESSIONS)
		hub_portal_session_close(ss, oldest(ss));
	new_token(s->token);
	new_token(s->csrf);
	snprintf(s->policy, sizeof s->policy, "%s", policy);
	s->rights = rights;
	s->opened_ms = s->used_ms = now_ms;
	hf_list_add_tail(&ss->all, &s->node);
	ss->n++;
	return s;
}

struct hub_portal_session *hub_portal_session_find(struct hub_portal_sessions *ss, struct hf_span token, bool use,
						   uint64_t now_ms)
{
	struct hub_portal_session *found = NULL;
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &ss->all) {
		struct hub_portal_session *s = hf_container_of(pos, struct hub_portal_session, node);

		if (now_ms - s->used_ms >= ss->idle_ms || now_ms - s->opened_ms >= ss->max_ms)
			hub_portal_session_close(ss, s);
		else if (hf_ct_eq(token, hf_span_str(s->token)))
			found = s;
	}
	if (found && use) {
		found->used_ms = now_ms;
		hf_list_del(&found->node);
		hf_list_add_tail(&ss->all, &found->node);
	}
	return found;
}

bool hub_portal_session_csrf_ok(const struct hub_portal_session *s, struct hf_span token)
{
	return hf_ct_eq(token, hf_span_str(s->csrf));
}

/* --- failed logins ------------------------------------------------------------------------------------------- */

unsigned hub_portal_limit_wait_s(const struct hub_portal_limit *l, const char *address, uint64_t now_ms)
{
	for (size_t i = 0; i < HF_ARRAY_LEN(l->at); i++)
		if (strcmp(l->at[i].address, address) == 0 && l->at[i].n >= HUB_PORTAL_FAILURES &&
		    now_ms - l->at[i].since_ms < WINDOW_MS)
			return (unsigned)((WINDOW_MS - (now_ms - l->at[i].since_ms) + 999) / 1000);
	return 0;
}

void hub_portal_limit_failed(struct hub_portal_limit *l, const char *address, uint64_t now_ms)
{
	size_t at = 0;

	for (size_t i = 0; i < HF_ARRAY_LEN(l->at); i++) {
		if (strcmp(l->at[i].address, address) == 0) {
			at = i;
			break;
		}
		if (l->at[i].since_ms < l->at[at].since_ms)
			at = i;
	}
	if (strcmp(l->at[at].address, address) != 0 || now_ms - l->at[at].since_ms >= WINDOW_MS) {
		snprintf(l->at[at].address, sizeof l->at[at].address, "%s", address);
		l->at[at].since_ms = now_ms;
		l->at[at].n = 0;
	}
	l->at[at].n++;
}
