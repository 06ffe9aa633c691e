// SPDX-License-Identifier: GPL-3.0-or-later
// The form view of a manifest. Each field writes to the manifest when its text is right.
import {el, newId, replace} from "./dom.js";
import {card, field, select, text} from "./ui.js";
import {idProblem} from "./credentials.js";
import {isObject, parseJson, pretty} from "./json.js";
import * as model from "./manifest_model.js";

const STATUS = [["running", "running"], ["stopped", "stopped"]];
const RESTART = [["always", "always"], ["on-unhealthy", "on-unhealthy"], ["on-failure", "on-failure"], ["never", "never"]];
const known = (options, v) => v === undefined ? [["", "not set"], ...options] : options.some(([o]) => o === v) ? options : [...options, [v, v]];

// All fields of the form, to check them at once.
class Fields {
	constructor() {
		this.all = [];
	}

	// write(value) takes the text; problem(value) says what is wrong with it, or nothing.
	bind(label, input, {help, problem = () => null, write}) {
		const f = field(label, input, help);

		f.check = () => {
			const wrong = problem(input.value);

			f.error(wrong);
			return !wrong;
		};
		input.addEventListener("change", () => f.check() && write(input.value));
		this.all.push(f);
		return f.row;
	}

	check() {
		const bad = this.all.filter((f) => f.input.isConnected && !f.check())[0];

		if (!bad)
			return true;
		for (let d = bad.input.closest("details"); d; d = d.parentElement.closest("details"))
			d.open = true;
		bad.input.focus();
		return false;
	}
}

const duplicate = (name, row, rows) => [...rows.children].some((r) => r !== row && r.querySelector("input").value.trim() === name);

// Rows of two texts, such as variables and routes. entries: [[name, value]]; changed(list) after each change that is right.
function pairRows(fields, {what, entries, names, values, problem, changed, long}) {
	const rows = el("div"), keep = new Map();

	function read() {
		return [...rows.children].map((r) => [...[...r.querySelectorAll("input")].map((i) => i.value.trim()), keep.get(r)]);
	}
	function nameProblem(name, row) {
		if (!name)
			return `A ${names} needs a name.`;
		return duplicate(name, row, rows) ? "This name stands here twice." : problem?.(name);
	}
	function remove(row) {
		row.remove();
		changed(read());
		more.focus();
	}
	function add(name, value) {
		const row = el(`div.pair-row${long ? ".long" : ""}`), a = text({value: name, class: "mono"}), b = text({value, class: "mono"});

		keep.set(row, name);
		row.append(
			fields.bind(`${what} name`, a, {
				problem: (v) => nameProblem(v.trim(), row),
				write(v) {
					changed(read());
					keep.set(row, v.trim());
				},
			}),
			fields.bind(`${what} ${values}`, b, {write: () => changed(read())}),
			el("button.small", {type: "button", "aria-label": `Remove the ${names} ${name}`, onclick: () => remove(row)}, "Remove"));
		rows.append(row);
		return a;
	}
	const more = el("button.small", {type: "button", onclick: () => add("", "").focus()}, `Add a ${names}`);

	for (const [name, value] of entries)
		add(name, value);
	return el("div", {}, rows, more);
}

const envPart = (fields, module, except) => pairRows(fields, {
	what: "Variable", names: "variable", values: "value", entries: model.envRows(module, except),
	problem: (name) => except && name.toLowerCase() === except ? "This has its own field above." : null,
	changed: (list) => model.setEnvRows(module, list, except),
});

function shownOptions(module) {
	try {
		return pretty(model.createOptions(module));
	} catch {
		return model.createOptionsText(module);	// as it is, to be put right
	}
}

function optionsPart(fields, module, input, changed) {
	input.value = shownOptions(module);
	return fields.bind("createOptions", input, {
		help: "What the container engine gets, as a JSON object.",
		problem(v) {
			try {
				return v.trim() && !isObject(parseJson(v)) ? "This is a JSON object." : null;
			} catch (e) {
				return `Line ${e.line}, column ${e.column}: ${e.message}`;
			}
		},
		write(v) {
			model.setCreateOptions(module, v.trim() ? parseJson(v) : {});
			changed?.();
		},
	});
}

const codeArea = (rows, placeholder) => el("textarea.code", {rows: String(rows), placeholder, spellcheck: "false"});

function shownBinds(module) {
	try {
		return model.binds(module).join("\n");
	} catch {
		return "";
	}
}

function bindsProblem(module, v) {
	try {
		model.binds(module);
	} catch {
		return "createOptions cannot be read. Put it right first, under More.";
	}
	return v.split("\n").map((l) => l.trim()).filter(Boolean).every((l) => /^[^:]+:\/[^:]*(:[a-z,]+)?$/i.test(l)) ? null :
		"Each line is HOST:CONTAINER, such as /srv/storage/:/iotedge/storage/";
}

const image = (fields, module) => fields.bind("Image", text({value: module.settings?.image ?? "", class: "mono", placeholder: "registry/image:tag"}), {
	write: (v) => { module.settings = {...module.settings, image: v.trim()}; },
});

// The binds stand in createOptions too: each field shows what the other changed.
function systemPart(fields, content, name, title) {
	const module = model.systemModule(content, name);
	const binds = codeArea(2, "/srv/storage/:/iotedge/storage/"), options = codeArea(6);

	binds.value = shownBinds(module);
	return card(title, image(fields, module),
		fields.bind(`storageFolder of ${name}`, text({value: model.env(module, "storageFolder"), class: "mono", placeholder: "/iotedge/storage/"}), {
			help: "The folder in the container where it keeps messages and state. Bind it to the host, or it is lost with the container.",
			problem: (v) => !v.trim() || v.trim().startsWith("/") ? null : "A path in the container, from /.",
			write: (v) => model.setEnv(module, "storageFolder", v.trim()),
		}),
		fields.bind(`Binds of ${name}`, binds, {
			help: "Folders of the host that the container sees, one to a line, as HOST:CONTAINER.",
			problem: (v) => bindsProblem(module, v),
			write(v) {
				model.setBinds(module, v.split("\n").map((l) => l.trim()).filter(Boolean));
				options.value = shownOptions(module);
			},
		}),
		el("details", {}, el("summary", {}, "More"), el("h3", {}, "Other variables"), envPart(fields, module, "storagefolder"),
			optionsPart(fields, module, options, () => { binds.value = shownBinds(module); })));
}

function modulePart(fields, content, name, rebuild) {
	const all = model.modules(content), module = all[name], summary = el("span.name", {}, name);
	let current = name;

	return el("details.module", {}, el("summary", {}, summary, el("span.quiet", {}, module.settings?.image || "no image")),
		fields.bind("Name", text({value: name, class: "mono"}), {
			problem: (v) => idProblem(v.trim()) ||
				(v.trim() !== current && Object.hasOwn(all, v.trim()) ? "There is a module of this name." : null),
			write(v) {
				const next = v.trim();

				model.setEntries(all, Object.entries(all).map(([k, m]) => [k === current ? next : k, m]));
				current = summary.textContent = next;
			},
		}),
		image(fields, module),
		el("div.pair", {},
			fields.bind("Status", select(known(STATUS, module.status), module.status ?? ""), {write: (v) => model.setMember(module, "status", v)}),
			fields.bind("Restart policy", select(known(RESTART, module.restartPolicy), module.restartPolicy ?? ""), {
				write: (v) => model.setMember(module, "restartPolicy", v),
			})),
		el("h3", {}, "Variables"), envPart(fields, module, null), optionsPart(fields, module, codeArea(6)),
		el("div.actions", {}, el("button.small.danger", {type: "button", onclick: () => { delete all[current]; rebuild(); }}, "Remove this module")));
}

function modulesPart(fields, content, rebuild, open) {
	const all = model.modules(content), list = el("div", {}, Object.keys(all).map((name) => modulePart(fields, content, name, rebuild)));

	for (const d of list.children)
		d.open = d.querySelector(".name").textContent === open;
	return card("Modules", list.childElementCount ? list : el("p.quiet", {}, "No modules beside the system's."),
		el("button.small.add-module", {type: "button", onclick: () => {
			let n = 1;

			while (Object.hasOwn(all, `module${n}`))
				n++;
			all[`module${n}`] = model.freshModule();
			rebuild(`module${n}`);
		}}, "Add a module"));
}

function routesPart(fields, content) {
	const all = model.routes(content);

	return card("Routes", pairRows(fields, {
		what: "Route", names: "route", values: "text", long: true, entries: Object.entries(all).map(([k, r]) => [k, model.routeText(r)]),
		problem: (name) => /[.$# ]/.test(name) ? "A name has no space and none of . $ #" : null,
		changed(list) {
			const before = model.clone(all);

			model.setEntries(all, list.filter(([name]) => name)
				.map(([name, route, old]) => [name, model.withRouteText(before[name] ?? before[old], route)]));
		},
	}));
}

// Writes to `content`. check(): true, or the first field that is wrong has the focus.
export function manifestForm(content) {
	const node = el("div", {id: newId("manifest")});
	let fields = null;

	function build(open) {
		fields = new Fields();
		replace(node,
			el("section.card.short", {}, el("h2", {}, "Store and forward"),
				fields.bind("Time to live, seconds", text({inputmode: "numeric", value: String(model.ttl(content) ?? "")}), {
					help: "How long $edgeHub keeps messages while the hub cannot be reached. -1: for ever.",
					problem: (v) => /^(-1|\d{1,10})$/.test(v.trim()) && Number(v) <= 4294967295 ? null :
						"A whole number of seconds up to 4294967295, or -1.",
					write: (v) => model.setTtl(content, Number(v)),
				})),
			el("div.columns.even", {}, systemPart(fields, content, "edgeHub", "$edgeHub"),
				systemPart(fields, content, "edgeAgent", "$edgeAgent")),
			modulesPart(fields, content, rebuild, open), routesPart(fields, content));
	}
	// After a module came or went. open: the name of the new one.
	function rebuild(open) {
		build(open);
		(open ? node.querySelector("details.module[open] input") : node.querySelector(".add-module")).focus();
	}
	build();
	return {node, check: () => fields.check()};
}
