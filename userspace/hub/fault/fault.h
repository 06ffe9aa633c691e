/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/fault/fault.h - rules by which the hub misbehaves on purpose. In memory only. Loop thread; nothing blocks.
 *
 * A head asks hub_fault_hit() once for each operation, before it has any effect, and does what the answer says; what it
 * took by then stays in the model, so the hub's record is exact under every fault. docs/hub.md has the table. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hub_fault_on {
	HUB_ON_CONNECT,		/* a device or module logs in */
	HUB_ON_TELEMETRY,	/* it sends a message */
	HUB_ON_TWIN,		/* it reads its twin or reports properties */
	HUB_ON_METHOD,		/* the service calls a method */
	HUB_ON_SCOPE,		/* a gateway asks for its scope */
	HUB_ON_C2D,		/* the service sends a message to a device */
	HUB_ON__COUNT
};
enum hub_fault_action {
	HUB_DO_DELAY,		/* go on `ms` later; what follows on the connection waits behind it */
	HUB_DO_HANG,		/* not done, never answered, the connection stays */
	HUB_DO_DROP,		/* not done, the connection is closed */
	HUB_DO_REJECT,		/* not done, refused with `code`: CONNACK 1 to 5 on connect, else an HTTP status */
	HUB_DO_THROTTLE,	/* refused as a hub over its limits does */
	HUB_DO_ACK_LATE,	/* done, answered `ms` later */
	HUB_DO_ACK_TWICE,	/* done once, answered twice */
	HUB_DO_ACK_NEVER,	/* done, never answered */
	HUB_DO__COUNT
};
struct hub_fault {
	enum hub_fault_action action;
	uint32_t ms;
	int code;
};
struct hub_fault_rule {
	unsigned id;			/* given by hub_fault_add */
	enum hub_fault_on on;
	struct hub_fault fault;
	const char *device;		/* "D": it and its modules; "D/M"; NULL = all */
	unsigned rate;			/* percent, 1 to 100 */
	uint64_t left;			/* hits to go; 0 = no end */
	uint64_t hits;
};

struct hub_faults;
int hub_faults_create(struct hub_faults **ret_f);
void hub_faults_destroy(struct hub_faults **f);
/* Reads "telemetry" and "delay=500" into rule->on and rule->fault. HF_EINVALID: why names what is valid. */
int hub_fault_parse(const char *on, const char *action, struct hub_fault_rule *rule, char *why, size_t why_cap);
/* Copies the rule; *ret_id is its number. HF_EINVALID: device or rate; HF_ELIMIT: too many rules; -ENOMEM. */
int hub_fault_add(struct hub_faults *f, const struct hub_fault_rule *rule, unsigned *ret_id);
/* id 0 = all. How many were removed. */
unsigned hub_fault_clear(struct hub_faults *f, unsigned id);
/* True: the operation of this identity ("D" or "D/M") is to fail as *ret_fault says. The oldest rule that fits decides;
 * a rate hits evenly (50: every second operation). A spent rule is gone. */
bool hub_fault_hit(struct hub_faults *f, enum hub_fault_on on, const char *id, struct hub_fault *ret_fault);
/* Room for what waits because of a rule (hub/fault/fault_run.h): 64 MiB for the whole hub. False: there is none left. */
bool hub_faults_hold(struct hub_faults *f, size_t bytes);
void hub_faults_release(struct hub_faults *f, size_t bytes);
/* The switch that cuts one identity off: a rule `connect drop-connection` without end, asked before all others. Set twice
 * is set once. HF_ELIMIT, HF_EINVALID, -ENOMEM. */
int hub_fault_cut_off(struct hub_faults *f, const char *device, bool on);
/* One object per rule: id, on, action, device, rate, count, hits; cutOff (true) for switches. NULL: no memory. */
json_t *hub_faults_doc(const struct hub_faults *f);
