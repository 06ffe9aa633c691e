/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/ctl/cli.h - the command table of holdfast-hub, in the words of `az iot hub device-identity`, and its local commands.
 * Each returns an exit code; failures are told on standard error. */
#pragma once
#include "ctlproto/cli.h"

/* serve: runs the emulator in the foreground with the configuration file; the exit code. */
struct hf_cli hub_cli(int (*serve)(const struct hf_cli *cli, const json_t *args));
/* init: a directory with configuration, root and server certificate. */
int hub_cli_init(const struct hf_cli *cli, const json_t *args);
/* status: waits for a hub that is starting, with --wait. */
int hub_cli_status(const struct hf_cli *cli, const json_t *args);
/* connection-string, token: of a device, a module or a policy. */
int hub_cli_connection_string(const struct hf_cli *cli, const json_t *args);
int hub_cli_token(const struct hf_cli *cli, const json_t *args);
/* deployment show: as a file for deployment apply. */
int hub_cli_deployment_show(const struct hf_cli *cli, const json_t *args);
/* query: rows, or with --ids what identifies them. */
int hub_cli_query(const struct hf_cli *cli, const json_t *args);
/* import: sends a file of identities in parts. export: prints such a file. */
int hub_cli_import(const struct hf_cli *cli, const json_t *args);
int hub_cli_export(const struct hf_cli *cli, const json_t *args);
/* blob get: writes the content of an uploaded file. */
int hub_cli_blob_get(const struct hf_cli *cli, const json_t *args);
