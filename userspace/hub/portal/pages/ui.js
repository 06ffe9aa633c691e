// SPDX-License-Identifier: GPL-3.0-or-later
// Parts that several pages use: notices, fields, questions, copying, pages of lists.
import {el, fill, replace, newId} from "./dom.js";

// --- telling ---------------------------------------------------------------------------------------------------------

export function notice(text, kind = "ok") {
	const box = el(`div.notice.${kind}`, {}, el("span", {}, text));
	const close = el("button.plain", {type: "button", "aria-label": "Dismiss the message", onclick: () => box.remove()}, "×");

	fill(box, close);
	document.getElementById("notices").append(box);
	setTimeout(() => box.remove(), kind === "ok" ? 5000 : 15000);
}

// A message in the page, read out when it appears.
export function alertBox(kind, ...children) {
	return el(`div.alert.${kind}`, {role: kind === "bad" ? "alert" : "status"}, ...children);
}

export const help = (...children) => el("p.help", {}, ...children);
export const failure = (error, ...more) => alertBox("bad", el("p", {}, error.message), ...more);
export const empty = (title, ...more) => el("div.empty", {}, el("p.empty-title", {}, title), ...more);
export const loading = (text = "Loading …") => el("p.loading", {role: "status"}, text);
export const badge = (kind, text) => el(`span.badge.${kind}`, {}, text);

export function time(text) {
	if (!text || text.startsWith("0001"))
		return "never";
	const date = new Date(text);
	return el("time", {datetime: text, title: text}, date.toLocaleString(undefined, {dateStyle: "medium", timeStyle: "medium"}));
}

// --- fields ----------------------------------------------------------------------------------------------------------

// A labelled control. help: one line below. Returns {row, input, error(text)}.
export function field(label, input, help) {
	const id = input.id || newId("field");
	const message = el("p.field-error", {id: `${id}-error`, hidden: true});
	const described = [help ? `${id}-help` : "", `${id}-error`].join(" ").trim();

	input.id = id;
	input.setAttribute("aria-describedby", described);
	const row = el("div.field", {}, el("label", {for: id}, label), input,
		help ? el("p.help", {id: `${id}-help`}, help) : null, message);
	return {
		row, input,
		error(text) {
			message.hidden = !text;
			message.textContent = text || "";
			if (text)
				input.setAttribute("aria-invalid", "true");
			else
				input.removeAttribute("aria-invalid");
		},
	};
}

export const text = (props = {}) => el("input", {type: "text", autocomplete: "off", spellcheck: "false", ...props});

export function select(options, value, props = {}) {
	const node = el("select", props, options.map(([v, label]) => el("option", {value: v}, label)));

	node.value = value;
	return node;
}

export function checkbox(label, props = {}) {
	const input = el("input", {type: "checkbox", id: newId("check"), ...props});

	return {input, row: el("div.check", {}, input, el("label", {for: input.id}, label))};
}

// Radio buttons that belong together, also over several pages of a list; .value is the chosen one's.
export function newRadioGroup(onChosen) {
	const name = newId("radio"), group = {value: null, chosen: null, radio};

	function radio(label, value) {
		const input = el("input", {type: "radio", name, "aria-label": `Choose ${label}`, checked: group.chosen === label, onchange: () => {
			Object.assign(group, {value, chosen: label});
			onChosen(value);
		}});

		return input;
	}
	return group;
}

// Runs an action while its button is out of use; its failure is shown in `where`.
export async function busy(button, where, action) {
	button.disabled = true;
	button.setAttribute("aria-busy", "true");
	replace(where);
	try {
		await action();
	} catch (e) {
		if (e.name !== "AbortError")
			replace(where, failure(e));
	} finally {
		button.disabled = false;
		button.removeAttribute("aria-busy");
	}
}

// --- secrets and copying ---------------------------------------------------------------------------------------------

async function copy(value, what) {
	try {
		await navigator.clipboard.writeText(value);
		notice(`${what} copied.`);
	} catch {
		notice("The browser does not let the page copy. Show the value, then select and copy it.", "bad");
	}
}

export function copyButton(value, what) {
	return el("button.small", {type: "button", "aria-label": `Copy ${what}`, onclick: () => copy(value(), what)}, "Copy");
}

// A value that is hidden until wanted, editable or not.
export function secret(label, value, {editable = false, help} = {}) {
	const input = el("input.mono", {type: "password", value, readonly: !editable, autocomplete: "off", spellcheck: "false"});
	const f = field(label, input, help);
	const show = el("button.small", {
		type: "button", "aria-label": `Show ${label}`, "aria-pressed": "false", onclick: () => {
			const shown = input.type === "password";

			input.type = shown ? "text" : "password";
			show.textContent = shown ? "Hide" : "Show";
			show.setAttribute("aria-pressed", String(shown));
		},
	}, "Show");
	const line = el("div.with-buttons");

	input.replaceWith(line);
	fill(line, input, show, copyButton(() => input.value, label));
	return f;
}

// --- questions -------------------------------------------------------------------------------------------------------

// Asks before something that cannot be undone. Resolves to true or false; the focus goes back where it was.
export function confirmAction(title, consequences, verb) {
	return new Promise((resolve) => {
		const back = document.activeElement, heading = newId("dialog");
		const no = el("button", {value: "no"}, "Cancel"), yes = el("button.danger", {value: "yes"}, verb);
		const dialog = el("dialog", {"aria-labelledby": heading},
			el("form", {method: "dialog"}, el("h2", {id: heading}, title), consequences,
				el("div.actions", {}, no, yes)));

		dialog.addEventListener("close", () => {
			dialog.remove();
			if (back && back.isConnected)
				back.focus();
			resolve(dialog.returnValue === "yes");
		});
		document.body.append(dialog);
		dialog.showModal();
		no.focus();
	});
}

// A part of a page under a heading of its own.
export const card = (title, ...children) => el("section.card", {}, el("h2", {}, title), ...children);

// [[name, value, class], ...]; null entries are left out.
export function facts(list) {
	return el("dl.facts", {}, list.filter(Boolean).map(([name, value, kind]) => [el("dt", {}, name), el("dd", {class: kind}, value)]));
}

// --- lists -----------------------------------------------------------------------------------------------------------

export const wide = (title) => ({title, wide: true});

// columns: titles; wide() ones are left out where there is little room, as are their cells of class "wide".
export function table(caption, columns, rows) {
	const head = (c) => el("th", {scope: "col", class: c.wide ? "wide" : null}, c.title ?? c);

	return el("div.table", {role: "region", "aria-label": caption, tabindex: "0"}, el("table", {},
		el("caption.hidden", {}, caption),
		el("thead", {}, el("tr", {}, columns.map(head))),
		el("tbody", {}, rows)));
}

// Pages of a list whose next page is known by a token. load(token) is called for each page and returns
// {content, next, n}; all is the whole number or null.
export class Pager {
	constructor(what, load) {
		this.load = load;
		this.tokens = [null];
		this.at = 0;
		this.first = [0];
		this.list = el("div", {"aria-busy": "false"});
		this.prev = el("button.small", {type: "button", onclick: () => this.go(this.at - 1)}, "Previous");
		this.next = el("button.small", {type: "button", onclick: () => this.go(this.at + 1)}, "Next");
		this.label = el("span.quiet", {role: "status"});
		this.bar = el("nav.pager", {"aria-label": `Pages of ${what}`, hidden: true}, this.label, this.prev, this.next);
		this.node = el("div", {}, this.list, this.bar);
		this.turn = 0;
	}

	async go(page) {
		const turn = ++this.turn;

		this.list.setAttribute("aria-busy", "true");
		try {
			const {content, next, n, all} = await this.load(this.tokens[page]);

			if (turn !== this.turn)
				return;
			this.at = page;
			this.tokens[page + 1] = next;
			this.first[page + 1] = this.first[page] + n;
			replace(this.list, content);
			this.show(n, all);
		} catch (e) {
			if (turn === this.turn && e.name !== "AbortError")
				replace(this.list, failure(e, el("button.small", {type: "button", onclick: () => this.go(page)}, "Try again")));
		}
		if (turn === this.turn)
			this.list.setAttribute("aria-busy", "false");
	}

	show(n, all) {
		const from = this.first[this.at] + 1, to = this.first[this.at + 1];
		const focused = document.activeElement;

		this.label.textContent = n ? `${from} to ${to}${all === null || all === undefined ? "" : ` of ${all.toLocaleString()}`}` : "";
		this.prev.disabled = this.at === 0;
		this.next.disabled = !this.tokens[this.at + 1];
		this.bar.hidden = n === 0;
		this.prev.hidden = this.next.hidden = this.at === 0 && !this.tokens[1];
		if (focused === this.next && this.next.disabled)
			this.prev.focus();
		else if (focused === this.prev && this.prev.disabled)
			this.next.focus();
	}

	restart() {
		this.tokens = [null];
		this.first = [0];
		return this.go(0);
	}

	again() {
		return this.go(this.at);
	}
}

// Calls fn a moment after the last change.
export function debounce(fn, ms = 250) {
	let timer = 0;

	return (...args) => {
		clearTimeout(timer);
		timer = setTimeout(() => fn(...args), ms);
	};
}
