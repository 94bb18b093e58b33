// All queues: a tree by "/" or a flat list, sorted and filtered by the server, and acted on together.

import { may, named, query, request } from "./api.js";
import { sparkline } from "./chart.js";
import * as dialogs from "./dialogs.js";
import { h } from "./dom.js";
import { ago, bdi, count, duration, many, plain, rate, short } from "./format.js";
import { members } from "./json.js";
import { badge, crumbs, filterField, missing, Page, pattern, queueAddress } from "./page.js";

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
	{ name: "waiters", label: "Waiting workers", value: (row) => count(row.waiters), isWide: true },
	{ name: "paused", label: "Paused", value: (row) => paused(row), isWide: true },
];

/// The height of a row, which the style sheet fixes. Narrow screens have the figures below the name.
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
	const isUnattended = queue.ready > 0 && !queue.paused && queue.waiters === 0 && queue.dispatched === 0
		&& !queue.pushed && queue.oldest_ready >= 10;
	return [
		queue.paused && badge("paused", "waiting", "Tasks are kept and not dispatched."),
		isUnattended && badge("no worker", "bad", "Tasks are ready, and no worker waits for them or holds one."),
		queue.circuit && queue.circuit.state !== "closed" && badge(
			`circuit ${queue.circuit.state}`, "bad", `The receiver failed ${many(queue.circuit.failures, "time")} in a row.`),
	];
}

function paused(row) {
	if (row.group !== undefined) return row.paused ? many(row.paused, "queue") : "";
	return row.paused ? ago(row.paused_since) : "";
}

export class Queues extends Page {
	constructor(app, route) {
		super(app, route);
		this.selected = new Map();
		this.read(route);
		this.onscroll = () => app.update();
		addEventListener("scroll", this.onscroll, { passive: true });
		addEventListener("resize", this.onscroll, { passive: true });
	}

	leave() {
		removeEventListener("scroll", this.onscroll);
		removeEventListener("resize", this.onscroll);
	}

	follow(route) {
		this.read(route);
		scrollTo(0, 0);
	}

	read({ parameters }) {
		this.prefix = parameters.get("prefix") ?? "";
		this.sort = columns.some(({ name, isFixed }) => name === parameters.get("sort") && !isFixed) ? parameters.get("sort") : "name";
		this.match = parameters.get("match") ?? "";
		this.isFlat = parameters.get("flat") === "1";
		this.forget();
		this.selected.clear();
	}

	forget() {
		this.found = new Map();
		this.count = undefined;
	}

	/// The address of the page with some of its parameters changed.
	link(changes) {
		const { prefix, sort, match, flat } = { prefix: this.prefix, sort: this.sort, match: this.match, flat: this.isFlat ? "1" : "", ...changes };
		return `queues${query({ prefix, sort: sort === "name" ? "" : sort, match, flat })}`;
	}

	change(changes) {
		history.replaceState(null, "", `#/${this.link(changes)}`);
		this.app.follow();
	}

	get title() {
		return "Queues";
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

	path() {
		const { first, size } = this.window;
		return { first, path: `/stats/${query({
			delimiter: this.isFlat || this.match ? "" : "/", prefix: this.prefix, match: pattern(this.match), sort: this.sort, offset: first ? first : "0",
			n: size, trend: "1",
		})}` };
	}

	paths() {
		return [this.path().path];
	}

	view() {
		const { first, path } = this.path();
		const answer = this.app.data(path);
		if (answer && !answer.failure && answer !== this.taken) {
			this.taken = answer;
			rows(answer).forEach((row, index) => this.found.set(first + index, row));
			this.count = answer.json.count;
			for (const index of this.found.keys()) if (index >= this.count) this.found.delete(index);
		}
		return [
			h("div.head", { key: "head" }, h("h1", "Queues"), this.count !== undefined && h("span.quiet", this.total())),
			this.tools(),
			this.selected.size > 0 ? this.bar() : this.crumbs(),
			answer?.failure ? missing(answer, "the queues") : this.table(),
		];
	}

	total() {
		const isTree = !this.isFlat && !this.match;
		return isTree ? many(this.count, "entry").replace("entrys", "entries") : many(this.count, "queue");
	}

	tools() {
		return h("div.tools", { key: "tools" },
			filterField("Filter by name", "mail or *.eu", this.match, (match) => this.change({ match })),
			h("div.segments", { role: "group", "aria-label": "Shown as" }, [["", "Tree"], ["1", "List"]].map(([flat, label]) => h(
				"button", { type: "button", "aria-pressed": this.isFlat === (flat === "1") ? "true" : "false", onclick: () => this.change({ flat }) }, label))),
			h("label.narrow", h("span.offscreen", "Sort"), h("select", { value: this.sort, onchange: (event) => this.change({ sort: event.target.value }) },
				columns.filter(({ isFixed }) => !isFixed).map(({ name, label }) => h("option", { value: name }, `Sort: ${label}`)))));
	}

	crumbs() {
		return this.prefix !== "" && crumbs(this.prefix, (prefix) => `#/${this.link({ prefix })}`);
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
					isFixed ? label : h("button", { onclick: () => this.change({ sort: name }) }, label,
						h("span.arrow", { "aria-hidden": true }, this.sort === name ? (name === "name" ? "↑" : "↓") : "")))))),
			h("tbody", { dom: (element) => (this.body = element) },
				first > 0 && h("tr.spacer", { key: "above", "aria-hidden": true }, h("td", { colspan: columns.length + 1, style: { height: `${first * rowHeight()}px` } })),
				indexes.map((index) => this.row(index)),
				last < total && h("tr.spacer", { key: "below", "aria-hidden": true }, h("td", { colspan: columns.length + 1, style: { height: `${(total - last) * rowHeight()}px` } })))),
			this.count === undefined && h("p.empty", "Loading…"),
			total === 0 && this.count !== undefined && h("p.empty", this.match || this.prefix ? "No queue has such a name."
				: "There are no queues yet. A queue exists as soon as a task is enqueued or a worker waits."));
	}

	row(index) {
		const row = this.found.get(index);
		if (!row) return h("tr", { key: `place ${index}`, "aria-rowindex": index + 2 }, h("td"), h("td", { colspan: columns.length, class: "quiet" }, "…"));
		const key = rowKey(row);
		const isGroup = row.group !== undefined;
		const name = isGroup ? row.group.slice(this.prefix.length) : this.isFlat || this.match ? row.queue : row.queue.slice(this.prefix.length);
		return h(
			"tr", { key, "aria-rowindex": index + 2, class: this.selected.has(key) ? "selected" : "", "data-row": key },
			h("td.check", h("input", {
				type: "checkbox", "aria-label": `Select ${plain(row.group ?? row.queue)}`, checked: this.selected.has(key),
				onchange: (event) => this.select([row], event.target.checked),
			})),
			h("th", h("div", isGroup
				? [h("a.folder", { href: `#/${this.link({ prefix: row.group })}` }, bdi(name)), h("small", many(row.queues, "queue"))]
				: [h("a", { href: queueAddress(row.queue), title: plain(row.queue) }, bdi(name || "(empty)")), badges(row)])),
			columns.slice(1).map(({ name, label, value, isWide }) => h(
				"td", { "data-label": label, class: `number${isWide ? " wide" : ""}${name === "dead" && row.dead > 0 ? " dead" : ""}` },
				name === "trend" ? sparkline(row.trend, `Ready tasks in the last half hour, now ${count(row.ready)}`) : value(row))));
	}

	// MARK: Several at once

	select(rows, isSelected) {
		for (const row of rows) {
			if (isSelected) this.selected.set(rowKey(row), row);
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
		const mayManage = may("manage");
		const queueCount = chosen.reduce((sum, row) => sum + (row.queues ?? 1), 0);
		const sum = (...names) => chosen.reduce((all, row) => all + names.reduce((part, name) => part + row[name], 0), 0);
		return h("div.bar-of-actions", { key: "bar", role: "toolbar", "aria-label": "For the selected queues" },
			h("b", `${many(queueCount, "queue")} selected`),
			mayManage ? [
				h("button", { onclick: () => this.act("pause", "Paused") }, "Pause"),
				h("button", { onclick: () => this.act("resume", "Resumed") }, "Resume"),
				h("button", { disabled: sum("dead") === 0, onclick: () => this.act("kick", "Kicked", {
					title: "Kick dead tasks", action: "Kick", tasks: sum("dead"), text: "become ready again.",
				}) }, "Kick"),
				h("button", { class: "danger", disabled: sum("ready", "delayed") === 0, onclick: () => this.act("purge", "Purged", {
					title: "Purge", action: "Purge", tasks: sum("ready", "delayed"), text: "that are ready or delayed are deleted for good.", danger: true,
				}) }, "Purge"),
			] : h("span.quiet", "Your token may only look."),
			h("button", { class: "quiet", onclick: () => {
				this.selected.clear();
				this.app.update();
			} }, "Clear"));
	}

	async act(verb, past, question) {
		const chosen = [...this.selected.values()];
		if (question) {
			const isSure = await dialogs.confirm({
				title: question.title, action: question.action, danger: question.danger,
				text: `This applies to ${many(question.tasks, "task")}. They ${question.text}`.replace("They that", "Those that"),
				word: question.tasks > 100 ? String(question.tasks) : undefined,
			});
			if (!isSure) return;
		}
		let names;
		try {
			names = (await Promise.all(chosen.map(async (row) => row.group === undefined ? [row.queue]
				: JSON.parse(await request("GET", `/queues/${query({ prefix: row.group })}`))))).flat();
		} catch (error) {
			return dialogs.say(error.message, "bad");
		}
		const failures = [];
		let tasks = 0;
		const rest = [...new Set(names)].filter((name) => may("manage", name));
		const total = rest.length;
		const work = async () => {
			for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
				try {
					const answer = JSON.parse(await request("POST", `/${verb}/${named(name)}`));
					tasks += answer.kicked ?? answer.purged ?? 0;
				} catch (error) {
					failures.push(`${plain(name)}: ${error.message}`);
				}
			}
		};
		await Promise.all(Array.from({ length: requestsAtOnce }, work));
		const done = question ? `${past} ${many(tasks, "task")} in ${many(total - failures.length, "queue")}.` : `${past} ${many(total - failures.length, "queue")}.`;
		dialogs.say(done, failures.length ? "plain" : "good");
		if (failures.length) dialogs.say(`${many(failures.length, "queue")} failed. ${failures[0]}`, "bad");
		this.selected.clear();
		this.app.refresh();
		this.app.update();
	}
}

function rowKey(row) {
	return row.group === undefined ? `queue ${row.queue}` : `group ${row.group}`;
}
