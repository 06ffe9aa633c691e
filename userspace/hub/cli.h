/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/cli.h - the command table of holdfast-hub, in the words of `az iot hub device-identity`. */
#pragma once
#include "ctlproto/cli.h"

/* serve: runs the emulator in the foreground with the configuration file; the exit code. */
struct hf_cli hub_cli(int (*serve)(const struct hf_cli *cli, const json_t *args));
/* import: sends a file of identities in parts. */
int hub_cli_import(const struct hf_cli *cli, const json_t *args);
