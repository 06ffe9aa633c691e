/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/model/digital_twin.h - a device's twin seen through the plug-and-play convention: properties and components (objects with
 * "__t": "c"), writable properties with their acknowledgements, changes as JSON Patch. Loop thread. */
#pragma once
#include "hub/model/model.h"

json_t *hub_digital_twin_doc(struct hub_model *m, const struct hub_ident *device);	/* new reference; NULL: no memory */
/* Applies a JSON Patch (add, replace, remove; /property, /component, /component/property) to the desired properties.
 * if_match: the twin's etag or NULL. HF_EINVALID, HF_ESTALE, HF_ELIMIT with err; -ENOMEM. */
int hub_digital_twin_patch(struct hub_model *m, const struct hub_ident *device, const json_t *ops, const char *if_match,
			   struct hub_error *err);
