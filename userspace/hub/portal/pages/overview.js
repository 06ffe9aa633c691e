// SPDX-License-Identifier: GPL-3.0-or-later
// The hub at a glance.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {card, empty, failure, table, time, wide} from "./ui.js";
import {deviceLink} from "./registry.js";

const EVERY_MS = 2000, POINTS = 60, LOGINS = 20;
const SVG = "http://www.w3.org/2000/svg";

function figure(label, href) {
	const value = el("span.figure-value", {}, "–"), more = el("span.figure-more");
	const inner = [el("span.figure-label", {}, label), value, more];

	return {node: href ? el("a.card.figure", {href}, inner) : el("div.card.figure", {}, inner), value, more};
}

// The last two minutes as a line.
function chart() {
	const svg = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "polyline");
	const values = [];

	svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 40`);
	svg.setAttribute("preserveAspectRatio", "none");
	svg.setAttribute("class", "chart");
	svg.setAttribute("aria-hidden", "true");
	line.setAttribute("vector-effect", "non-scaling-stroke");
	svg.append(line);
	return {
		node: svg,
		add(v) {
			values.push(v);
			if (values.length > POINTS)
				values.shift();
			const top = Math.max(1, ...values), first = POINTS - values.length;

			line.setAttribute("points", values.map((y, i) => `${first + i},${(38 - 36 * y / top).toFixed(2)}`).join(" "));
		},
	};
}

const rounded = (v) => v === 0 ? "0" : v < 10 ? v.toFixed(1) : Math.round(v).toLocaleString();

const LOGIN_COLUMNS = ["Device or module", "Protocol", wide("From"), wide("Cipher"), wide("Since")];

function loginRow(c) {
	const [device, module] = c.id.split("/");

	return el("tr", {}, el("td", {}, el("a.name", {href: deviceLink(device, module ? `modules/${api.enc(module)}` : "")}, c.id)),
		el("td", {}, c.protocol), el("td.wide.mono", {}, c.peer), el("td.wide.quiet", {}, c.cipher), el("td.wide.quiet", {}, time(c.connectedAt)));
}

// Drawn again only when somebody came or left, so that nothing moves under the reader.
function loginList() {
	const node = el("div");
	let shown = null;

	return {
		node,
		async refresh(all) {
			const list = await api.get(`clients?top=${LOGINS}`, {poll: true}), now = JSON.stringify(list) + all;

			if (now === shown)
				return;
			shown = now;
			replace(node, list.length ? table("Logins", LOGIN_COLUMNS, list.map(loginRow)) : empty("Nobody is connected."),
				all > list.length ? el("p.quiet", {}, `The ${list.length} longest of ${all.toLocaleString()}.`) : null);
		},
	};
}

export function overviewPage() {
	const devices = figure("Devices", "#/devices"), connected = figure("Connected devices", "#/devices?show=connected");
	const logins = figure("Logins, with modules"), rate = figure("Events per second", "#/telemetry"), line = chart();
	const facts = el("dl.facts"), trouble = el("div"), who = api.may("registryRead") ? loginList() : null;
	let before = null, timer = 0, gone = false;

	rate.node.append(line.node);

	async function refresh() {
		try {
			const s = await api.get("status", {poll: true}), now = performance.now();

			if (gone)
				return;
			devices.value.textContent = s.devices.toLocaleString();
			devices.more.textContent = `${s.edgeDevices.toLocaleString()} edge · ${(s.devices - s.enabled).toLocaleString()} disabled`;
			connected.value.textContent = s.connectedDevices.toLocaleString();
			connected.more.textContent = s.cutOff ? `${s.cutOff} cut off` : "none cut off";
			logins.value.textContent = s.logins.toLocaleString();
			logins.more.textContent = "over every protocol";
			if (before) {
				const v = Math.max(0, (s.events - before.events) * 1000 / (now - before.at));

				rate.value.textContent = rounded(v);
				line.add(v);
			}
			rate.more.textContent = `${s.events.toLocaleString()} since the start`;
			before = {events: s.events, at: now};
			if (!facts.childElementCount)
				replace(facts,
					el("dt", {}, "Host name"), el("dd", {}, s.host),
					el("dt", {}, "Version"), el("dd", {}, s.version),
					el("dt", {}, "Running since"), el("dd", {}, time(s.startedAt)),
					el("dt", {}, "Signed in with"), el("dd", {}, api.currentSession().policy));
			if (who)
				await who.refresh(s.logins);
			replace(trouble);
		} catch (e) {
			if (!gone)
				replace(trouble, failure(e));
		}
		if (!gone)
			timer = setTimeout(refresh, EVERY_MS);
	}
	refresh();
	return {
		title: "Overview",
		node: el("div", {}, trouble, el("div.figures", {}, devices.node, connected.node, logins.node, rate.node),
			card("This hub", facts),
			who ? el("section", {}, el("h2", {}, "Logins"), who.node) : null),
		leave() {
			gone = true;
			clearTimeout(timer);
		},
	};
}
