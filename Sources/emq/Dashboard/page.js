// What all pages have in common.

import { h } from "./dom.js";
import { bdi, count, plain, rate, short } from "./format.js";

/// One page, for as long as it is shown.
///
/// A subclass says what it watches (`paths`, or `path` if it is one) and shows it (`view`).
export class Page {
	title = "";
	last = {};
	/// How often it asks, in seconds.
	interval = 1;

	constructor(app, route) {
		this.app = app;
		this.read(route);
	}

	/// Takes what the address says: `name` and `parameters`. Called again if only the parameters change.
	read() {}

	/// Changes something of itself that it shows.
	set(values) {
		Object.assign(this, values);
		this.app.update();
	}

	/// The GET requests whose answers it shows.
	paths() {
		return [this.path()];
	}

	/// Takes a key that nothing else takes. Returns whether it did.
	key() {
		return false;
	}

	/// Whether figures must stay as they are, because somebody has selected something.
	get isHeld() {
		return false;
	}

	/// Called when another page is shown.
	leave() {}

	/// The answer for a path: `{ json, text, failure }`. Until there is one, the last one for the same purpose.
	latest(purpose, path) {
		const answer = this.app.data(path);
		if (answer) this.last[purpose] = answer;
		return answer ?? this.last[purpose];
	}
}

/// A box with a heading.
export function card(title, { actions, ...properties } = {}, ...children) {
	return h("section.card", properties, title && h("header", h("h2", title), actions), children);
}

/// What is shown while there is no answer, or instead of one that failed; otherwise undefined.
export function missing(answer) {
	if (!answer) return h("p.empty", "Loading…");
	if (answer.failure) return h("p.empty.bad", `Not shown: ${plain(answer.failure.message)}`);
	return undefined;
}

export function button(label, onclick, properties) {
	return h("button", { onclick, ...properties }, label);
}

/// A button that opens and closes what is below it.
export function disclosure(isOpen, onclick, label) {
	return h("button.quiet.disclose", { onclick, "aria-expanded": isOpen }, h("span", { "aria-hidden": true }, isOpen ? "▾" : "▸"), label);
}

/// Buttons of which one is pressed. `choices` are pairs of values and labels.
export function segments(name, choices, chosen, choose) {
	return h("div.segments", { role: "group", "aria-label": name }, choices.map(([value, label]) => button(
		label, () => choose(value), { "aria-pressed": value === chosen })));
}

/// What is there instead of buttons.
export function mayOnlyLook() {
	return h("span.quiet", "Your token may only look.");
}

export function badge(text, kind, title) {
	return h("span.badge", { class: kind, title }, text);
}

/// Pairs of names and values.
export function facts(pairs) {
	return h("dl.facts", pairs.filter(Boolean).map(([name, value]) => h("div", h("dt", name), h("dd", value ?? "–"))));
}

/// The mark for a state of a task.
export function state(name) {
	return badge(name === "dispatched" ? "running" : name, name);
}

/// Tiles that say how many tasks are in a state.
export function stateTiles(figures, properties) {
	return [["ready", "Ready"], ["delayed", "Delayed"], ["dispatched", "Running"], ["dead", "Dead"]].map(([name, label]) => h(
		"a.tile", { class: name, ...properties(name) },
		h("span", label), h("b", { title: count(figures?.[name]) }, short(figures?.[name]))));
}

/// The tile of the rates of the last minute.
export function rateTile(rates) {
	return h("div.tile.double", h("span", "A second, in the last minute"), h("b",
		["enqueued", "done", "failed"].map((name) => h("span", { class: name }, rate(rates?.[name]), " ", h("small", name)))));
}

export function queueAddress(name) {
	return `#/queue/${encodeURIComponent(name)}`;
}

export function queueLink(name, properties, text = bdi(name)) {
	return h("a", { href: queueAddress(name), ...properties }, text);
}

/// The way in the tree to a queue, or to a group, whose name ends with a slash. `link` makes an address of a prefix.
export function crumbs(name, link) {
	const parts = name.split("/").slice(0, -1);
	return h("nav.crumbs", { key: "crumbs", "aria-label": "Place in the tree" }, h("a", { href: link("") }, "All queues"),
		parts.map((part, index) => {
			const prefix = `${parts.slice(0, index + 1).join("/")}/`;
			return [h("span", { "aria-hidden": true }, "/"), h("a", { href: link(prefix), "aria-current": prefix === name ? "page" : undefined }, bdi(part || "(empty)"))];
		}));
}

export function taskLink(id) {
	return h("a", { href: `#/task/${id}` }, h("code", id));
}

/// A table with a row for each item, which narrow screens show as a box.
///
/// - `columns`: for each, the label, what it shows of an item, and a class if it has one. The first one names the row.
/// - `key(item)`: what makes the row another one.
/// - `more(item)`: what is shown below the row, if anything.
export function table(columns, items, { key = ({ id }) => id, more, caption, ...properties } = {}) {
	const [[, name, nameClass], ...others] = columns;
	return h("table", { class: "stack", ...properties },
		h("thead", h("tr", columns.map(([label, , kind]) => h("th", { key: label, scope: "col", class: kind }, label)))),
		h("tbody", items.map((item) => {
			const below = more?.(item);
			return [
				h("tr", { key: key(item) }, h("th", { class: nameClass }, name(item)),
					others.map(([label, value, kind]) => h("td", { key: label, "data-label": label, class: kind }, value(item)))),
				below && h("tr.inside", { key: `${key(item)}\n` }, h("td", { colspan: columns.length }, below)),
			];
		})),
		caption && h("caption", caption));
}

const settleMilliseconds = 250;
let timer;

/// A field that filters by a part of a name, or by a pattern. `change` gets the text once somebody stops typing.
export function filterField(label, example, value, change) {
	return h("label.filter", h("span.offscreen", label), h("input", {
		type: "search", placeholder: `${label}: ${example}`, value, oninput: ({ target }) => {
			clearTimeout(timer);
			timer = setTimeout(() => target.isConnected && change(target.value.trim()), settleMilliseconds);
		},
	}));
}

/// A field that chooses how rows are sorted. `choices` are pairs of values and labels.
export function sortField(choices, value, change) {
	return h("label", h("span.offscreen", "Sort"), h("select", { value, onchange: ({ target }) => change(target.value) },
		choices.map(([choice, label]) => h("option", { value: choice }, label))));
}

/// The pattern for what somebody has typed as a filter.
export function pattern(text) {
	return text && !text.includes("*") ? `*${text}*` : text;
}
