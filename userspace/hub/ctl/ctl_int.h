/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/ctl/ctl_int.h - shared by the command families of the emulator's control socket. */
#pragma once
#include "ctlproto/ctlproto.h"
#include "hub/ctl/ctl.h"
#include "hub/fault/fault.h"

struct hub_ctl {
	struct hf_loop *loop;
	struct hub_model *model;
	struct hub_portal *portal;	/* NULL = none */
	char *host;
	struct hf_ctl_srv *srv;
	struct hf_list followers;
	struct hf_list readings;	/* struct reading: content on its way */
	int64_t started_ms;
};

/* Member of args as text; NULL when absent or not a string. */
const char *hub_arg(const json_t *args, const char *name);
/* The identity named by deviceId [moduleId], or NULL after answering "not-found" / "invalid". */
const struct hub_ident *hub_ctl_ident(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *args);
/* Ends the call with the model's error. */
void hub_ctl_error(struct hf_ctl_call *call, const struct hub_error *err);
/* Answers with the item (stolen) once everything changed so far is committed. */
void hub_ctl_ok_committed(struct hub_ctl *ctl, struct hf_ctl_call *call, json_t *item);

/* Items of a long answer. end frees arg, in the end or when the client left. */
struct hub_ctl_source {
	json_t *(*next)(void *arg, const char **ret_failed);	/* new reference; NULL: the end, or failed with a reason */
	void (*end)(void *arg);
};
/* ctl_stream.c: sends what the source has, a slice a turn, and ends the call. arg is taken. */
void hub_ctl_stream(struct hub_ctl *ctl, struct hf_ctl_call *call, const struct hub_ctl_source *source, void *arg);

/* ctl_device.c */
void hub_ctl_device_create(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_device_show(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_device_update(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_device_delete(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_module_create(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_import(void *arg, struct hf_ctl_call *call, const json_t *args);
/* ctl_parent.c */
void hub_ctl_add_children(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_remove_children(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_get_parent(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_set_parent(void *arg, struct hf_ctl_call *call, const json_t *args);
/* ctl_list.c */
void hub_ctl_device_list(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_list_children(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_module_list(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_query(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_export(void *arg, struct hf_ctl_call *call, const json_t *args);
/* ctl_content.c */
void hub_ctl_deployment_apply(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_deployment_show(void *arg, struct hf_ctl_call *call, const json_t *args);
/* ctl_traffic.c */
void hub_ctl_events(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_on_event(void *arg);
void hub_ctl_twin_show(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_twin_update(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_method_invoke(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_c2d_send(void *arg, struct hf_ctl_call *call, const json_t *args);
/* ctl_blob.c */
void hub_ctl_blob_list(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_blob_read(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_blob_delete(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_blobs_stop(struct hub_ctl *ctl);
/* ctl_fault.c */
/* The command stands for an operation of the service: false if a fault rule ended it or put it off. */
bool hub_ctl_gate(struct hub_ctl *ctl, struct hf_ctl_call *call, enum hub_fault_on on, const char *id);
void hub_ctl_fault_add(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_fault_list(void *arg, struct hf_ctl_call *call, const json_t *args);
void hub_ctl_fault_clear(void *arg, struct hf_ctl_call *call, const json_t *args);
