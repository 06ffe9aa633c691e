// SPDX-License-Identifier: GPL-3.0-or-later
// A text area for JSON that says, while typing, whether and where the text is wrong.
import {el, newId, replace} from "./dom.js";
import {debounce} from "./ui.js";
import {parseJson, pretty} from "./json.js";

// read(text) gives the value or throws; returns {node, input, set(value), text(), value()}: value() is undefined when the
// text is wrong, after moving to the place.
export function jsonEditor(label, {rows = 20, limits, check, readonly = false} = {}) {
	const id = newId("json"), message = el("p.json-state", {id: `${id}-state`, "aria-live": "polite"});
	const input = el("textarea.code", {
		id, rows, readonly, spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off",
		"aria-describedby": readonly ? null : `${id}-state`,
	});

	function read() {
		const v = parseJson(input.value, limits);
		const problem = check?.(v);

		if (problem)
			throw new Error(problem);
		return v;
	}
	function goTo(at) {
		input.focus();
		input.setSelectionRange(at, Math.min(at + 1, input.value.length));
	}
	function show() {
		try {
			read();
			message.className = "json-state ok";
			replace(message, "Valid");
			input.removeAttribute("aria-invalid");
		} catch (e) {
			message.className = "json-state bad";
			replace(message, e.line ?
				el("button.link", {type: "button", onclick: () => goTo(e.at)}, `Line ${e.line}, column ${e.column}`) : "Not valid",
			`: ${e.message}`);
			input.setAttribute("aria-invalid", "true");
			return e;
		}
		return null;
	}
	if (!readonly)
		input.addEventListener("input", debounce(show));
	return {
		input,
		node: el("div.json", {}, el("label", {for: id}, label), input, readonly ? null : message),
		set(v) {
			input.value = pretty(v);
			if (!readonly)
				show();
		},
		text: () => input.value,
		value() {
			const e = show();

			if (!e)
				return read();
			goTo(e.at || 0);
			return undefined;
		},
	};
}
