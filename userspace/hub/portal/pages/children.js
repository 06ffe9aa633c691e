// SPDX-License-Identifier: GPL-3.0-or-later
// The children of an edge device: shown, added, removed, many at once.
import * as api from "./api.js";
import {el, fill, replace} from "./dom.js";
import {Pager, alertBox, badge, busy, card, checkbox, debounce, empty, field, help, notice, table, text, wide} from "./ui.js";
import {allOf, deviceLink, nameContains, parentOf, searchDevices, setParent, stateBadges} from "./registry.js";

const AT_ONCE = 4;

// A list of devices with boxes to tick. The choice outlives searching and turning pages.
function picker(caption, where, options) {
	const chosen = new Map();
	const search = text({type: "search", placeholder: "Part of a device id"});
	const button = el(options.danger ? "button.danger" : "button.primary", {
		type: "button", disabled: true, onclick: () => options.act([...chosen.values()], button),
	}, options.verb(0));

	function mark() {
		button.disabled = chosen.size === 0;
		button.textContent = options.verb(chosen.size);
	}
	function row(d, all) {
		const box = el("input", {type: "checkbox", "aria-label": `Choose ${d.deviceId}`, checked: chosen.has(d.deviceId), onchange: () => {
			if (box.checked)
				chosen.set(d.deviceId, d);
			else
				chosen.delete(d.deviceId);
			all();
			mark();
		}});
		const parent = options.showParent && parentOf(d);

		return {box, node: el("tr", {}, el("td.tick", {}, box),
			el("td", {}, el("a.name", {href: deviceLink(d.deviceId)}, d.deviceId), d.iotEdge ? [" ", badge("edge", "Edge")] : null,
				parent ? el("div.quiet", {}, `now a child of ${parent}`) : null),
			el("td.wide", {}, stateBadges(d, false)))};
	}
	function content(devices) {
		const all = el("input", {type: "checkbox", "aria-label": "Choose all on this page"});
		const rows = devices.map((d) => row(d, sync));

		function sync() {
			const n = rows.filter((r) => r.box.checked).length;

			all.checked = n > 0 && n === rows.length;
			all.indeterminate = n > 0 && n < rows.length;
		}
		all.addEventListener("change", () => {
			for (const r of rows)
				if (r.box.checked !== all.checked)
					r.box.click();
		});
		sync();
		const t = table(caption, ["", "Device", wide("State")], rows.map((r) => r.node));

		replace(t.querySelector("th"), all);
		return t;
	}
	let total = null;
	const pager = new Pager(caption, async (token) => {
		const page = await searchDevices(allOf(nameContains(search.value.trim()), where()), token, 20);

		if (!token)
			total = page.all;
		return {n: page.rows.length, next: page.next, all: total,
			content: page.rows.length ? content(page.rows) : empty(search.value ? "No device fits the search." : options.none)};
	});

	search.addEventListener("input", debounce(() => pager.restart()));
	return {
		node: [field("Search", search).row, options.extra || null, pager.node, el("div.actions", {}, button)],
		pager, mark,
		clear() {
			chosen.clear();
			mark();
			return pager.restart();
		},
	};
}

// Some at a time; who fails is told, the others go on.
async function forEach(devices, act, progress) {
	const left = [...devices], failed = [];
	let done = 0;

	await Promise.all(Array.from({length: AT_ONCE}, async () => {
		for (let d = left.shift(); d; d = left.shift()) {
			try {
				await act(d);
			} catch (e) {
				failed.push(`${d.deviceId}: ${e.message}`);
			}
			progress(++done);
		}
	}));
	return failed;
}

export async function childrenPart(ident) {
	const scope = ident.scope, outcome = el("div"), progress = el("p.quiet", {role: "status"});
	const others = checkbox("Also devices that have another parent; adding moves them", {onchange: () => free.pager.restart()});
	const mayWrite = api.may("registryWrite") && api.may("registryRead");

	async function change(devices, button, newScope, done) {
		await busy(button, outcome, async () => {
			const failed = await forEach(devices, (d) => setParent(d.deviceId, newScope), (n) => {
				progress.textContent = `${n} of ${devices.length} done`;
			});

			progress.textContent = "";
			if (failed.length < devices.length)
				notice(`${devices.length - failed.length} ${done}`);
			await Promise.all([children.clear(), free.clear()]);
			if (failed.length)
				replace(outcome, alertBox("bad", el("p", {}, `${failed.length} of ${devices.length} could not be changed:`),
					el("ul", {}, failed.slice(0, 10).map((f) => el("li", {}, f)))));
		});
		children.mark();
		free.mark();
	}
	const children = picker("Children", () => `array_contains(parentScopes, ${api.quoted(scope)})`, {
		none: "This edge device has no children yet.", danger: true, verb: (n) => n ? `Remove ${n} from ${ident.device}` : "Remove",
		act: (devices, button) => change(devices, button, "", `removed from ${ident.device}.`),
	});
	// An edge device becomes a child from its own page: as a leaf only others are taken.
	const isFree = () => allOf("capabilities.iotEdge = false", `NOT array_contains(parentScopes, ${api.quoted(scope)})`,
		others.input.checked ? null : "parentScopes = []");
	const free = picker("Devices to add", isFree, {
		none: "Every device has a parent already.", showParent: true, extra: others.row, verb: (n) => n ? `Add ${n} to ${ident.device}` : "Add",
		act: (devices, button) => change(devices, button, scope, `added to ${ident.device}.`),
	});
	const node = el("div", {}, outcome, progress);

	await Promise.all([children.pager.restart(), mayWrite ? free.pager.restart() : null]);
	return fill(node, el("div.columns.even", {},
		card("Child devices", mayWrite ? children.node : children.pager.node),
		mayWrite ? card("Add devices",
			help("Edge devices are not offered here: an edge device gets its parent on its own page, under Parent."),
			free.node) : null));
}
