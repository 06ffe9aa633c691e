/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/model/content.h - configuration content: which desired properties it sets, and putting it in force (iothub-protocol
 * 5.8). Content of one identity is {"properties.desired": {...}} for the whole section or
 * {"properties.desired.a.b": value} for what is below; modules content is {module: such an object}. Loop thread. */
#pragma once
#include "hub/model/model.h"

#define HUB_CONTENT_SECTION "properties.desired"

/* Reasons are static texts; NULL = the content is well formed. */
const char *hub_content_check_parts(const json_t *parts);
const char *hub_content_check_modules(const json_t *modules_content);
/* Modules that $edgeAgent's desired properties list; NULL = it says nothing about modules. Borrowed. */
const json_t *hub_content_listed(const json_t *modules_content);
/* The desired properties after parts on top of now (borrowed, no $ members). New reference, NULL: no memory. */
json_t *hub_content_next(const json_t *now, const json_t *parts);
/* Makes the edge device's modules those the content lists (managed ones that are not listed go) and sets their desired
 * properties. Checked as a whole first: a refusal leaves everything as it was. unless_equal: sections that would not
 * change are left alone, without a new version. HF_EINVALID, HF_ELIMIT with err; -ENOMEM. */
int hub_content_apply(struct hub_model *m, const struct hub_ident *edge, const json_t *modules_content, bool unless_equal,
		      struct hub_error *err);
/* The same for the desired properties of one device or module. */
int hub_content_set(struct hub_model *m, const struct hub_ident *ident, const json_t *parts, bool unless_equal,
		    struct hub_error *err);
