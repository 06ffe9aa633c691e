/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The portal as a whole: made, ended, and the key that signs in once. */
#include "core/clock.h"
#include "core/util.h"
#include "hub/portal/portal_int.h"

#include <errno.h>
#include <stdio.h>

void hub_portal_key_renew(struct hub_portal *p)
{
	snprintf(p->key, sizeof p->key, "%016llx%016llx", (unsigned long long)hf_random_u64(),
		 (unsigned long long)hf_random_u64());
}

const char *hub_portal_key(const struct hub_portal *p)
{
	return p->key;
}

const char *hub_portal_url(const struct hub_portal *p)
{
	return p->url;
}

static char *make_url(const char *host, const char *listen)
{
	const char *port = strrchr(listen, ':');
	struct hf_buf b = HF_BUF_INIT(512);
	char *url;

	hf_buf_printf(&b, "https://%s%s/portal/", host, port && strcmp(port, ":443") != 0 ? port : "");
	url = b.err ? NULL : strdup(hf_buf_cstr(&b));
	hf_buf_fini(&b);
	return url;
}

int hub_portal_create(struct hf_loop *loop, struct hub_model *model, const struct hub_portal_cfg *cfg,
		      struct hub_portal **ret_portal)
{
	struct hub_portal *p = calloc(1, sizeof *p);
	int r = -ENOMEM;

	if (!p)
		return r;
	p->loop = loop;
	p->model = model;
	p->started_ms = hf_clock_wall_ms();
	hf_list_init(&p->streams);
	hub_portal_sessions_init(&p->sessions, cfg->idle_ms, cfg->max_ms);
	hub_portal_key_renew(p);
	p->url = make_url(hub_model_host(model), cfg->listen_https);
	if (p->url)
		r = hf_timer_create(loop, portal_live_produce, p, &p->produce);
	if (r == 0)
		r = hf_timer_create(loop, portal_live_check, p, &p->check);
	if (r != 0) {
		hub_portal_destroy(&p);
		return r;
	}
	hub_on_event(model, portal_live_on_event, p);
	*ret_portal = p;
	return 0;
}

void hub_portal_destroy(struct hub_portal **portal)
{
	struct hub_portal *p = *portal;

	if (!p)
		return;
	assert(p->n_streams == 0);	/* they ended with the REST side */
	hf_timer_destroy(&p->produce);
	hf_timer_destroy(&p->check);
	hub_portal_sessions_fini(&p->sessions);
	explicit_bzero(p->key, sizeof p->key);
	free(p->url);
	free(p);
	*portal = NULL;
}
