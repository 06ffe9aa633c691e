// SPDX-License-Identifier: GPL-3.0-or-later
// Signing in.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {field, failure} from "./ui.js";

export function loginPage(done) {
	const input = el("input.mono", {type: "password", name: "credential", autocomplete: "off", required: true, spellcheck: "false"});
	const where = el("div", {role: "alert"}), button = el("button.primary", {type: "submit"}, "Sign in");
	const f = field("Service connection string or portal key", input);

	async function submit(e) {
		e.preventDefault();
		button.disabled = true;
		replace(where);
		try {
			await api.signIn(input.value.trim());
			input.value = "";
			done();
		} catch (error) {
			replace(where, failure(error));
			input.select();
			input.focus();
		}
		button.disabled = false;
	}
	const node = el("div.login", {},
		el("div.card", {},
			el("img", {src: "icon.svg", alt: "", width: "40", height: "40"}),
			el("h1", {}, "Sign in to holdfast-hub"),
			el("form", {onsubmit: submit}, f.row, where, button),
			el("div.help", {},
				el("p", {}, "On the machine of the hub,"),
				el("dl", {},
					el("dt", {}, el("code", {}, "holdfast-hub portal key")),
					el("dd", {}, "prints a key that signs in once, with every right;"),
					el("dt", {}, el("code", {}, "holdfast-hub policy show")),
					el("dd", {}, "prints a connection string. What you may do follows its policy.")))));
	return {title: "Sign in", node, plain: true, focus: input};
}
