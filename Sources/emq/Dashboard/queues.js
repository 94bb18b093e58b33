// All queues: a tree by "/" or a flat list, sorted and filtered by the server, and acted on together.

import { ask } from "./actions.js";
import { may, named, query, send } from "./api.js";
import { sparkline } from "./chart.js";
import { say } from "./dialogs.js";
import { h } from "./dom.js";
import { ago, bdi, count, duration, many, plain, rate, short } from "./format.js";
import { members } from "./json.js";
import { badge, button, crumbs, filterField, mayOnlyLook, missing, Page, pattern, queueAddress, segments, sortField } from "./page.js";

const narrow = matchMedia("(max-width: 760px)");
const step = 20;
const requestsAtOnce = 4;

const columns = [
	{ name: "name", label: "Queue" },
	{ name: "ready", label: "Ready", value: (row) => short(row.ready) },
	{ name: "delayed", label: "Delayed", value: (row) => short(row.delayed), isWide: true },
	{ name: "dispatched", label: "Running", value: (row) => short(row.dispatched) },
	{ name: "dead", label: "Dead", value: (row) => short(row.dead) },
	{ name: "oldest_ready", label: "Oldest", value: (row) => (row.ready ? duration(row.oldest_ready) : "–") },
	{ name: "enqueued", label: "In/s", value: (row) => rate(row.rates.enqueued), isWide: true },
	{ name: "done", label: "Out/s", value: (row) => rate(row.rates.done), isWide: true },
	{ name: "failed", label: "Failed/s", value: (row) => rate(row.rates.failed), isWide: true },
	{ name: "trend", label: "Last half hour", isFixed: true, isWide: true },
	{ name: "waiters", label: "Waiting workers", value: (row) => (row.group === undefined && unattended(row)) || count(row.waiters), isWide: true },
	{ name: "paused", label: "Paused", value: paused, isWide: true },
];

const sorts = columns.filter(({ isFixed }) => !isFixed);

/// The height of a row, as in the style sheet.
function rowHeight() {
	return narrow.matches ? 64 : 41;
}

/// The rows of a page of `/stats/`, in the server's order. Objects would not keep it for names that are numbers.
export function rows(answer) {
	if (answer.json.rows) return answer.json.rows;
	return [...members(members(answer.text).get("queues")).values()].map((text) => JSON.parse(text));
}

/// Marks for what is unusual about a queue.
export function badges(queue) {
	return [held(queue), unattended(queue), circuit(queue)];
}

function held(queue) {
	return queue.paused && badge("paused", "waiting", "No task is dispatched.");
}

function unattended(queue) {
	return queue.oldest_ready >= 10 && !queue.paused && !queue.pushed && !queue.waiters && queue.dispatched === (queue.sending ?? 0)
		&& badge("no worker", "bad", "Tasks are ready, and no worker waits or holds one.");
}

function circuit({ circuit }) {
	return circuit && circuit.state !== "closed"
		&& badge(`circuit ${circuit.state}`, "bad", `The receiver failed ${many(circuit.failures, "time")} in a row.`);
}

/// Stands for rows that are not there.
function spacer(key, rows) {
	return rows > 0 && h("tr.spacer", { key, "aria-hidden": true }, h("td", { colspan: columns.length + 1, style: { height: `${rows * rowHeight()}px` } }));
}

function paused(row) {
	if (row.group !== undefined) return row.paused ? many(row.paused, "queue") : "";
	return row.paused && badge(ago(row.paused_since), "waiting");
}

export class Queues extends Page {
	title = "Queues";
	interval = 2;

	constructor(app, route) {
		super(app, route);
		const { signal } = (this.watching = new AbortController());
		for (const type of ["scroll", "resize"]) addEventListener(type, () => app.update(), { passive: true, signal });
	}

	leave() {
		this.watching.abort();
	}

	read({ parameters }) {
		this.prefix = parameters.get("prefix") ?? "";
		this.sort = sorts.find(({ name }) => name === parameters.get("sort"))?.name ?? "name";
		this.match = parameters.get("match") ?? "";
		this.isFlat = parameters.get("flat") === "1";
		this.found = new Map();
		this.count = undefined;
		this.selected = new Map();
		scrollTo(0, 0);
	}

	/// The page's address with some parameters changed.
	link(changes) {
		const { prefix, sort, match, flat } = { ...this, flat: this.isFlat ? "1" : "", ...changes };
		return `#/queues${query({ prefix, sort: sort === "name" ? "" : sort, match, flat })}`;
	}

	change(changes) {
		this.app.replace(this.link(changes));
	}

	get isHeld() {
		return this.selected.size > 0;
	}

	/// Which rows are visible, and some around them.
	get window() {
		const top = this.body ? this.body.getBoundingClientRect().top : 300;
		const first = Math.max(0, Math.floor((-top / rowHeight()) / step) * step - step);
		const size = (Math.ceil(innerHeight / rowHeight() / step) + 3) * step;
		const last = this.count === undefined ? first + size : Math.max(0, this.count);
		return { first: Math.min(first, Math.max(0, Math.floor(last / step) * step - step)), size };
	}

	request() {
		const { first, size } = this.window;
		return { first, path: `/stats/${query({
			delimiter: this.isTree && "/", prefix: this.prefix, match: pattern(this.match), sort: this.sort, offset: first, n: size, trend: "1",
		})}` };
	}

	paths() {
		return [this.request().path];
	}

	view() {
		const { first, path } = this.request();
		const answer = this.app.data(path);
		if (answer && !answer.failure && answer !== this.taken) {
			this.taken = answer;
			rows(answer).forEach((row, index) => this.found.set(first + index, row));
			this.count = answer.json.count;
			for (const index of this.found.keys()) if (index >= this.count) this.found.delete(index);
		}
		return [
			h("div.head", { key: "head" }, h("h1", "Queues"), this.count !== undefined && h("span.quiet",
				many(this.count, this.isTree ? "row" : "queue"))),
			this.tools(),
			this.selected.size > 0 ? this.bar() : this.prefix !== "" && crumbs(this.prefix, (prefix) => this.link({ prefix })),
			answer?.failure ? missing(answer) : this.table(),
		];
	}

	/// Whether groups stand for the queues in them.
	get isTree() {
		return !this.isFlat && !this.match;
	}

	tools() {
		return h("div.tools", { key: "tools" },
			filterField("Filter by name", "mail or *.eu", this.match, (match) => this.change({ match })),
			segments("Shown as", [["", "Tree"], ["1", "List"]], this.isFlat ? "1" : "", (flat) => this.change({ flat })),
			h("div.narrow", sortField(sorts.map(({ name, label }) => [name, `Sort: ${label}`]), this.sort, (sort) => this.change({ sort }))));
	}

	table() {
		const { first, size } = this.window;
		const total = this.count ?? 0;
		const last = Math.min(total, first + size);
		const indexes = Array.from({ length: Math.max(0, last - first) }, (_, index) => first + index);
		const known = indexes.map((index) => this.found.get(index)).filter(Boolean);
		const areAllSelected = known.length > 0 && known.every((row) => this.selected.has(rowKey(row)));
		return h("div.table-box", { key: "table" }, h("table.queues.stack", { "aria-rowcount": total + 1 },
			h("thead", h("tr", { "aria-rowindex": 1 },
				h("th", { scope: "col", class: "check" }, h("input", {
					type: "checkbox", "aria-label": "Select all that are shown", checked: areAllSelected,
					onchange: () => this.select(known, !areAllSelected),
				})),
				columns.map(({ name, label, isFixed, isWide }) => h(
					"th", {
						scope: "col", class: `${name === "name" ? "" : "number"}${isWide ? " wide" : ""}`,
						"aria-sort": this.sort === name ? (name === "name" ? "ascending" : "descending") : undefined,
					},
					isFixed ? label : button([label, h("span.arrow", { "aria-hidden": true }, this.sort === name && (name === "name" ? "↑" : "↓"))],
						() => this.change({ sort: name })))))),
			h("tbody", { dom: (element) => (this.body = element) },
				spacer("above", first), indexes.map((index) => this.row(index)), spacer("below", total - last))),
			this.count === undefined && h("p.empty", "Loading…"),
			total === 0 && this.count !== undefined && h("p.empty", this.match || this.prefix ? "No queue has such a name."
				: "There are no queues yet. The first task or waiting worker makes one."));
	}

	row(index) {
		const row = this.found.get(index);
		if (!row) return h("tr", { key: `place ${index}`, "aria-rowindex": index + 2 }, h("td"), h("td", { colspan: columns.length, class: "quiet" }, "…"));
		const key = rowKey(row);
		const isGroup = row.group !== undefined;
		const whole = row.group ?? row.queue;
		const name = this.isTree ? whole.slice(this.prefix.length) : whole;
		return h(
			"tr", { key, "aria-rowindex": index + 2, class: this.selected.has(key) ? "selected" : "" },
			h("td.check", h("input", {
				type: "checkbox", "aria-label": `Select ${plain(whole)}`, checked: this.selected.has(key),
				onchange: (event) => this.select([row], event.target.checked),
			})),
			h("th", h("div", isGroup
				? [h("a.folder", { href: this.link({ prefix: row.group }) }, bdi(name)), h("small", many(row.queues, "queue"))]
				: [h("a", { href: queueAddress(row.queue), title: plain(row.queue) }, bdi(name || "(empty)")), h("span.narrow", held(row), unattended(row)), circuit(row)])),
			columns.slice(1).map(({ name, label, value, isWide }) => h(
				"td", { "data-label": label, class: `number${isWide ? " wide" : ""}${name === "dead" && row.dead > 0 ? " dead" : ""}` },
				name === "trend" ? sparkline(row.trend, `Ready tasks in the last half hour, now ${count(row.ready)}`) : value(row))));
	}

	select(rows, isSelected) {
		for (const row of rows) {
			if (isSelected && may("read", row.queue)) this.selected.set(rowKey(row), row);
			else this.selected.delete(rowKey(row));
		}
		this.app.update();
	}

	key(event) {
		if (event.key !== "x") return false;
		document.activeElement.closest("tr")?.querySelector("input[type=checkbox]")?.click();
		return true;
	}

	bar() {
		const chosen = [...this.selected.values()];
		const sum = (part) => chosen.reduce((all, row) => all + part(row), 0);
		const dead = sum((row) => row.dead);
		const waiting = sum((row) => row.ready + row.delayed);
		const queues = many(sum((row) => row.queues ?? 1), "queue");
		return h("div.bar-of-actions", { key: "bar", role: "toolbar", "aria-label": "For the selected queues" },
			h("b", `${queues} selected`),
			may("manage") ? [
				[["Pause", "paused"], ["Resume", "resumed"]].map(([label, past]) => button(label, () => this.confirm(label.toLowerCase(), `${label}d`, {
					title: label, make: () => ({ text: `${queues} will be ${past}.` }),
				}))),
				button("Kick", () => this.confirm("kick", "Kicked", {
					title: "Kick dead tasks", action: "Kick", make: () => ({ tasks: dead, text: `${many(dead, "task")} in ${queues} will be ready at once.` }),
				}), { disabled: dead === 0 }),
				button("Purge", () => this.confirm("purge", "Purged", {
					title: "Purge", danger: true, make: () => ({ tasks: waiting, text: `${many(waiting, "task")} in ${queues}, ready or delayed, will be deleted for good.` }),
				}), { class: "danger", disabled: waiting === 0 }),
			] : mayOnlyLook(),
			button("Clear", () => this.set({ selected: new Map() }), { class: "quiet" }));
	}

	confirm(verb, past, question) {
		return ask(this.app, { ...question, perform: () => this.act(verb, past), done: () => undefined });
	}

	/// Does the same to all selected queues, and says what came of it.
	async act(verb, past) {
		let names;
		try {
			names = (await Promise.all([...this.selected.values()].map(({ group, queue }) => (group === undefined ? [queue]
				: send("GET", `/queues/${query({ prefix: group })}`))))).flat();
		} catch (error) {
			return this.app.refuse(error);
		}
		const failures = [];
		let tasks = 0;
		const rest = [...new Set(names)].filter((name) => may("manage", name));
		const total = rest.length;
		const work = async () => {
			for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
				try {
					const answer = await send("POST", `/${verb}/${named(name)}`);
					tasks += answer.kicked ?? answer.purged ?? 0;
				} catch (error) {
					failures.push(`${plain(name)}: ${error.message}`);
				}
			}
		};
		await Promise.all(Array.from({ length: requestsAtOnce }, work));
		const queues = many(total - failures.length, "queue");
		say(`${past} ${["kick", "purge"].includes(verb) ? `${many(tasks, "task")} in ${queues}` : queues}.`, failures.length ? "plain" : "good");
		if (failures.length) say(`${many(failures.length, "queue")} failed. ${failures[0]}`, "bad");
		this.set({ selected: new Map() });
		this.app.refresh();
	}
}

function rowKey(row) {
	return row.group === undefined ? `queue ${row.queue}` : `group ${row.group}`;
}
