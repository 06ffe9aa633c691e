/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ctlproto/cli_print.h - prints the items of a reply: JSON lines, a table, or key-value lines. To stdout. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

struct hf_cli_printer;
/* columns: "path:TITLE,path:TITLE" with dots in paths, or NULL. stream: rows are printed as they come. */
int hf_cli_printer_create(bool json, const char *columns, bool stream, struct hf_cli_printer **ret_p);
void hf_cli_printer_item(void *printer, const json_t *item);
/* Prints a waiting table, frees. complete: also the titles of an empty one. */
void hf_cli_printer_finish(struct hf_cli_printer **p, bool complete);
