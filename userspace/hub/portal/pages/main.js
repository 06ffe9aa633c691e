// SPDX-License-Identifier: GPL-3.0-or-later
// The frame: who is signed in, which page the address names, the banner about faults.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {failure, loading} from "./ui.js";
import {loginPage} from "./login.js";
import {overviewPage} from "./overview.js";
import {devicesPage} from "./devices.js";
import {newDevicePage} from "./newdevice.js";
import {devicePage} from "./device.js";
import {telemetryPage} from "./telemetry.js";
import {faultsPage} from "./faults.js";

const main = document.getElementById("main"), top = document.getElementById("top"), banner = document.getElementById("banner");
let leave = null, turn = 0;

// "#/devices/a%20b/twin?x=1" -> {path: ["devices", "a b", "twin"], params}
function where() {
	const [path, search] = location.hash.replace(/^#\/?/, "").split("?");

	return {path: path.split("/").filter(Boolean).map(decodeURIComponent), params: new URLSearchParams(search || "")};
}

function pageOf({path, params}) {
	if (path.length === 0)
		return overviewPage();
	if (path[0] === "devices" && path.length === 1)
		return devicesPage(params);
	if (path[0] === "devices")
		return devicePage(path[1], path.slice(2), params);
	if (path[0] === "new-device")
		return newDevicePage();
	if (path[0] === "telemetry")
		return telemetryPage(params);
	if (path[0] === "faults")
		return faultsPage();
	return {title: "Not found", node: el("p", {}, "There is no such page. Choose one above.")};
}

function markCurrent(path) {
	for (const a of top.querySelectorAll("nav a")) {
		const name = a.getAttribute("href").slice(2);

		if (name === (path[0] === "new-device" ? "devices" : path[0] || ""))
			a.setAttribute("aria-current", "page");
		else
			a.removeAttribute("aria-current");
	}
}

// A page is {title, node, leave}: leave() ends what it has running. Pages may come late.
async function show(focus) {
	const mine = ++turn, place = where();

	if (leave)
		leave();
	leave = null;
	if (!api.currentSession()) {
		top.hidden = banner.hidden = true;
		render(loginPage(signedIn), focus);
		return;
	}
	markCurrent(place.path);
	let page;
	try {
		const coming = pageOf(place);

		if (coming instanceof Promise)
			main.setAttribute("aria-busy", "true");
		page = await coming;
	} catch (e) {
		page = {title: "Something went wrong", node: failure(e, el("a", {href: "#/devices"}, "Go to the devices"))};
	}
	if (mine !== turn) {
		if (page.leave)
			page.leave();
		return;
	}
	render(page, focus);
}

function render(page, focus) {
	const heading = el("h1", {tabindex: "-1"}, page.title);

	leave = page.leave || null;
	document.title = `${page.title} – holdfast-hub`;
	main.removeAttribute("aria-busy");
	replace(main, page.plain ? null : el("div.page-head", {}, page.above, el("div.title-row", {}, heading, page.actions), page.below), page.node);
	window.scrollTo(0, 0);
	if (page.focus)
		page.focus.focus();
	else if (focus)
		heading.focus();
}

// --- faults banner ---------------------------------------------------------------------------------------------------

const plural = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

async function refreshBanner() {
	if (!api.currentSession() || document.hidden)
		return;
	try {
		const s = await api.get("status", {poll: true});
		const parts = [s.faults && plural(s.faults, "fault rule"), s.cutOff && `${plural(s.cutOff, "device")} cut off`].filter(Boolean);

		banner.hidden = parts.length === 0;
		if (parts.length)
			replace(banner, el("p", {}, "The hub fails on purpose: ", parts.join(", "), ". ", el("a", {href: "#/faults"}, "Show the faults")));
	} catch {
		// the pages tell what is wrong
	}
}

function signedIn() {
	const session = api.currentSession();

	top.hidden = false;
	document.getElementById("who").textContent = `${session.host} · ${session.policy}`;
	refreshBanner();
	show(true);
}

api.setOnSignedOut(() => show(true));
document.getElementById("signout").addEventListener("click", async () => {
	await api.signOut().catch(() => {});
	show(true);
});
document.querySelector(".skip").addEventListener("click", (e) => {
	e.preventDefault();
	main.focus();
});
window.addEventListener("hashchange", () => show(true));
window.addEventListener("faults-changed", refreshBanner);
setInterval(refreshBanner, 5000);

replace(main, loading());
try {
	if (await api.resume())
		signedIn();
	else
		show(false);
} catch (e) {
	replace(main, failure(e));
}
