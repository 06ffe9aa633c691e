/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The upstream thread: assembly, and the calls that reach it from other threads as mails. */
#include "upstream/upstream.h"
#include "auth/sas.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "upstream/hub_session_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

/* --- pump's view of the sessions -------------------------------------------------------------------------- */
static int pump_send(void *arg, uint32_t child, uint64_t seq, struct hf_msg *msg, bool dup)
{
	struct hf_upstream *up = arg;
	struct hf_hub_session *s = hf_hub_session_find(up, hf_msg_from(msg));

	(void)child;
	return s ? hf_hub_session_send(s, seq, msg, dup) : HF_EFULL;
}

static int pump_want(void *arg, uint32_t child, const char *ident)
{
	struct hf_upstream *up = arg;
	struct hf_hub_session *s = hf_hub_session_get(up, ident);

	if (!s)
		return -ENOMEM;
	s->child = child;
	if (hf_hub_session_is_up(s))
		hf_pump_session_up(up->pump, child, hf_link_number(up));
	else
		hf_hub_session_want(s);
	return 0;
}

static const struct hf_pump_ops pump_ops = { .send = pump_send, .want_session = pump_want };

/* --- mails -------------------------------------------------------------------------------------------------- */
struct call {
	struct hf_mail mail;
	struct hf_upstream *up;
	char ident[HF_IDENT_MAX + 1];
};

static struct call *new_call(struct hf_upstream *up, const char *ident, void (*fn)(struct hf_mail *))
{
	struct call *c = calloc(1, sizeof *c);

	if (!c) {
		hf_log(HF_LOG_ERR, "upstream.memory", "%s: a notice to the uplink is lost", ident);
		return NULL;
	}
	c->mail.fn = fn;
	c->up = up;
	snprintf(c->ident, sizeof c->ident, "%s", ident);
	return c;
}

static void presence_back(struct hf_mail *mail)
{
	struct hf_presence *p = hf_container_of(mail, struct hf_presence, mail);

	p->done(p);
}

static void on_presence(struct hf_mail *mail)
{
	struct hf_presence *p = hf_container_of(mail, struct hf_presence, mail);
	struct hf_hub_session *s = hf_hub_session_get(p->up, p->ident);

	if (!s)
		hf_log(HF_LOG_ERR, "upstream.memory", "%s: a notice to the uplink is lost", p->ident);
	else if (!p->up->stopping)
		hf_hub_session_presence(s, p->connected, p->subs, p->client_type, p->model_id);
	mail->fn = presence_back;
	hf_inbox_post(p->reply_to, mail);
}

void hf_upstream_presence(struct hf_upstream *up, struct hf_presence *p)
{
	p->up = up;
	p->mail.fn = on_presence;
	hf_inbox_post(up->inbox, &p->mail);
}

static void on_twin(struct hf_mail *mail)
{
	struct hf_twin_request *req = hf_container_of(mail, struct hf_twin_request, mail);

	hf_twin_handle(req->up, req);
}

void hf_upstream_twin(struct hf_upstream *up, struct hf_twin_request *req)
{
	req->up = up;
	req->mail.fn = on_twin;
	hf_inbox_post(up->inbox, &req->mail);
}

static void method_answer_back(struct hf_mail *mail)
{
	struct hf_method_answer *a = hf_container_of(mail, struct hf_method_answer, mail);

	a->done(a);
}

static void on_method_answer(struct hf_mail *mail)
{
	struct hf_method_answer *a = hf_container_of(mail, struct hf_method_answer, mail);
	struct hf_hub_session *s = hf_hub_session_find(a->up, hf_span_str(a->ident));
	hf_autobuf struct hf_buf topic = HF_BUF_INIT(4096);

	hf_buf_printf(&topic, "$iothub/methods/res/%d/?$rid=", a->status);
	hf_buf_put_span(&topic, a->rid);
	if (s && hf_hub_session_has_room(s) && !topic.err)
		hf_hub_session_publish(s, hf_buf_span(&topic), a->body);
	else
		a->up->n.answers_lost++;
	mail->fn = method_answer_back;
	hf_inbox_post(a->reply_to, mail);
}

void hf_upstream_method_answer(struct hf_upstream *up, struct hf_method_answer *a)
{
	a->up = up;
	a->mail.fn = on_method_answer;
	hf_inbox_post(up->inbox, &a->mail);
}

static void on_refresh(struct hf_mail *mail)
{
	struct hf_refresh *r = hf_container_of(mail, struct hf_refresh, mail);

	hf_refresh_ask(r->up, r->ident, r);
}

void hf_upstream_refresh(struct hf_upstream *up, struct hf_refresh *r)
{
	r->up = up;
	r->mail.fn = on_refresh;
	hf_inbox_post(up->inbox, &r->mail);
}

static void on_reconnect(struct hf_mail *mail)
{
	struct call *c = hf_container_of(mail, struct call, mail);
	struct hf_upstream *up = c->up;

	if (hf_link_online(up))
		hf_hub_session_drop_all(up, HF_EOFFLINE, "reconnect asked for");
	hf_link_wake(up, "reconnect asked for");
	free(c);
}

void hf_upstream_reconnect(struct hf_upstream *up)
{
	struct call *c = new_call(up, "", on_reconnect);

	if (c)
		hf_inbox_post(up->inbox, &c->mail);
}

enum hf_uplink_state hf_upstream_state(const struct hf_upstream *up)
{
	return (enum hf_uplink_state)up->state;
}

uint64_t hf_upstream_stalled_ms(const struct hf_upstream *up)
{
	return atomic_load_explicit(&up->stalled_ms, memory_order_relaxed);
}

static void on_show_done(struct hf_mail *mail)
{
	struct hf_upstream_show *show = hf_container_of(mail, struct hf_upstream_show, mail);

	show->done(show);
}

static void on_show(struct hf_mail *mail)
{
	struct hf_upstream_show *show = hf_container_of(mail, struct hf_upstream_show, mail);
	struct hf_upstream *up = show->up;
	struct hf_pump_stats p;
	json_t *o = hf_link_show(up);

	hf_pump_stats(up->pump, &p);
	json_object_set_new(o, "sessions", json_pack("{s:i, s:i, s:i, s:i}", "up", up->n_up, "connecting", up->n_connecting,
						     "known", (int)hf_map_count(up->sessions), "max", up->max_sessions));
	json_object_set_new(o, "pump", json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "inFlight",
						 (json_int_t)p.in_flight, "heldBytes", (json_int_t)p.held_bytes, "sent",
						 (json_int_t)p.sent, "resent", (json_int_t)p.resent, "readBack",
						 (json_int_t)p.read_back, "readErrors", (json_int_t)p.read_errors, "unsendable",
						 (json_int_t)p.unsendable, "stalledMs", (json_int_t)p.stalled_ms));
	json_object_set_new(o, "scope", hf_scope_sync_show(up));
	json_object_set_new(o, "timeToLiveSecs", json_integer(up->ttl_s));
	json_object_set_new(o, "timeToLiveFrom", json_string(up->ttl_from_twin ? "twin" : "configuration"));
	json_object_set_new(o, "twinsAnsweredLocally", json_integer((json_int_t)up->n.twin_local));
	json_object_set_new(o, "twinsPassedThrough", json_integer((json_int_t)up->n.twin_passed));
	json_object_set_new(o, "downlinksRefused", json_integer((json_int_t)up->n.downs_refused));
	json_object_set_new(o, "methodAnswersLost", json_integer((json_int_t)up->n.answers_lost));
	json_object_set_new(o, "connects", json_integer((json_int_t)up->n.reconnects));
	json_object_set_new(o, "connectFailures", json_integer((json_int_t)up->n.conn_failures));
	show->result = o;
	show->mail.fn = on_show_done;
	hf_inbox_post(show->reply_to, &show->mail);
}

void hf_upstream_show(struct hf_upstream *up, struct hf_upstream_show *show)
{
	show->up = up;
	show->mail.fn = on_show;
	hf_inbox_post(up->inbox, &show->mail);
}

/* --- life --------------------------------------------------------------------------------------------------- */
static void on_tick(void *arg)
{
	struct hf_upstream *up = arg;

	hf_hub_session_tick(up);
	hf_twin_tick(up);
	hf_scope_sync_tick(up);
	atomic_store_explicit(&up->stalled_ms, hf_pump_watch(up->pump), memory_order_relaxed);
	hf_refresh_tick(up);
}

static void *run(void *arg)
{
	struct hf_upstream *up = arg;

	hf_link_start(up);
	hf_timer_start(up->tick, 1000, 1000);
	hf_loop_run(up->loop);
	hf_tls_thread_fini();
	return NULL;
}

static char *part(const char *connstr, const char *name)
{
	struct hf_span v;

	return hf_connstr_get(hf_span_str(connstr), name, &v) && v.len ? hf_span_dup(v) : NULL;
}

/* Device, module and key of the connection string; a log line says what is missing. */
static int take_identity(struct hf_upstream *up, const char *connstr)
{
	char *module = part(connstr, "ModuleId");
	bool is_hub = module && strcmp(module, "$edgeHub") == 0;
	char own[HF_IDENT_MAX + 1];

	free(module);
	up->edge_id = part(connstr, "DeviceId");
	up->key = part(connstr, "SharedAccessKey");
	if (!up->edge_id || !up->key || !is_hub || strlen(up->edge_id) > HF_ID_MAX) {
		hf_log(HF_LOG_ERR, "upstream.identity",
		       "hub.connection_string_file must hold HostName=..;DeviceId=<edge>;ModuleId=$edgeHub;SharedAccessKey=<base64>");
		return HF_EBADCONF;
	}
	snprintf(own, sizeof own, "%s/$edgeHub", up->edge_id);
	up->own_id = strdup(own);
	return up->own_id ? 0 : -ENOMEM;
}

static void on_stop_turn(void *arg);

static void on_stop_timer(void *arg)
{
	on_stop_turn(((struct hf_upstream *)arg)->stop);
}

static int build(struct hf_upstream *up, const struct hf_upstream_cfg *cfg)
{
	int r = take_identity(up, cfg->connection_string);

	if (r == 0)
		r = hf_tls_ctx_create_client(cfg->ca_file, &up->tls);
	if (r == 0)
		r = hf_loop_create(&up->loop);
	if (r == 0)
		r = hf_inbox_create(up->loop, false, &up->inbox);
	if (r == 0)
		r = hf_map_create(&up->sessions);
	if (r == 0)
		r = hf_timer_create(up->loop, on_tick, up, &up->tick);
	if (r == 0)
		r = hf_timer_create(up->loop, on_stop_timer, up, &up->stop_timer);
	if (r == 0 && !(up->own = hf_hub_session_get(up, up->own_id)))
		r = -ENOMEM;
	if (r == 0)
		r = hf_link_init(up);
	if (r == 0)
		r = hf_scope_sync_init(up);
	if (r == 0)
		r = hf_refresh_init(up);
	if (r == 0)
		r = hf_twins_load(up);
	if (r == 0)
		r = hf_pump_create(up->loop, up->store, up->inbox, &pump_ops, up, &up->pump);
	return r;
}

static void upstream_free(struct hf_upstream *up)
{
	hf_pump_destroy(&up->pump);
	hf_twins_fini(up);
	hf_refresh_fini(up);
	hf_scope_sync_fini(up);
	hf_link_fini(up);
	hf_hub_session_free_all(up);
	hf_timer_destroy(&up->tick);
	hf_timer_destroy(&up->stop_timer);
	hf_inbox_destroy(&up->inbox);
	hf_loop_destroy(&up->loop);
	hf_tls_ctx_unref(&up->tls);
	hf_own_token_forget(up);
	if (up->key)
		explicit_bzero(up->key, strlen(up->key));
	free(up->key);
	free(up->hub_host);
	free(up->edge_id);
	free(up->own_id);
	free(up->dns_servers);
	free(up);
}

int hf_upstream_create(const struct hf_upstream_cfg *cfg, struct hf_store *store, const struct hf_upstream_ops *ops,
		       void *arg, struct hf_upstream **ret_up)
{
	struct hf_upstream *up = calloc(1, sizeof *up);
	int r = -ENOMEM;

	if (!up)
		return r;
	hf_list_init(&up->waiting);
	up->store = store;
	up->ops = ops;
	up->arg = arg;
	up->mqtt_port = cfg->mqtt_port ? cfg->mqtt_port : 8883;
	up->https_port = cfg->https_port ? cfg->https_port : 443;
	up->backoff.max_ms = cfg->backoff_max_ms ? cfg->backoff_max_ms : 60000;
	up->scope_refresh_s = cfg->scope_refresh_s ? cfg->scope_refresh_s : 3600;
	up->max_sessions = cfg->max_sessions ? cfg->max_sessions : 1000;
	up->clock = cfg->clock;
	up->ttl_default = up->ttl_s = cfg->ttl_s_default;
	up->since_wall_ms = hf_clock_wall_ms();
	up->hub_host = strdup(cfg->hub_host);
	up->dns_servers = cfg->dns_servers ? strdup(cfg->dns_servers) : NULL;
	if (up->hub_host && (up->dns_servers || !cfg->dns_servers))
		r = build(up, cfg);
	if (r == 0)
		r = -pthread_create(&up->thread, NULL, run, up);
	if (r != 0) {
		hf_log(HF_LOG_ERR, "upstream.start", "%s", hf_strerror(r));
		upstream_free(up);
		return r;
	}
	*ret_up = up;
	return 0;
}

struct stop {
	struct hf_mail mail;
	struct hf_upstream *up;
	struct hf_timer *timer;
	unsigned turns;
};

#define STOP_TURN_MS 20
#define STOP_TURNS 250	/* 5 s */

/* Ends once the store has answered everything that names this thread's inbox. */
static void on_stop_turn(void *arg)
{
	struct stop *s = arg;

	if ((hf_pump_idle(s->up->pump) && s->up->n_saving == 0) || ++s->turns == STOP_TURNS)
		hf_loop_stop(s->up->loop);
}

static void on_stop(struct hf_mail *mail)
{
	struct stop *s = hf_container_of(mail, struct stop, mail);
	struct hf_upstream *up = s->up;

	up->stopping = true;
	hf_timer_stop(up->tick);
	hf_hub_session_drop_all(up, HF_ECLOSED, "shutting down");
	hf_pump_stop(up->pump);
	hf_timer_start(s->timer, STOP_TURN_MS, STOP_TURN_MS);
}

void hf_upstream_destroy(struct hf_upstream **pup)
{
	struct hf_upstream *up = *pup;
	struct stop s = { .mail.fn = on_stop, .up = up };

	if (!up)
		return;
	s.timer = up->stop_timer;
	up->stop = &s;
	hf_inbox_post(up->inbox, &s.mail);
	pthread_join(up->thread, NULL);
	*pup = NULL;
	if (!hf_pump_idle(up->pump) || up->n_saving) {
		hf_log(HF_LOG_ERR, "upstream.stop", "the store did not answer in 5 s: memory is left to the end of the process");
		return;
	}
	upstream_free(up);
}
