// One queue: its figures over time, its tasks by state, its configuration, and what can be done to it.

import * as actions from "./actions.js";
import { may, named, query, send } from "./api.js";
import { chart, rateChart } from "./chart.js";
import { Configuration } from "./configuration.js";
import { requestButton } from "./dialogs.js";
import { h } from "./dom.js";
import { enqueue } from "./enqueue.js";
import { ago, bdi, bytes, count, duration, many, plain, short } from "./format.js";
import { elements, oneLine, task as readTask } from "./json.js";
import { badge, button, card, crumbs, facts, missing, Page, queueAddress, queueLink, rateTile, segments, stateTiles, table, taskLink } from "./page.js";
import { badges } from "./queues.js";

const states = [
	["ready", "Ready"], ["delayed", "Delayed"], ["dispatched", "Running"], ["dead", "Dead"],
	["done", "Done"], ["cancelled", "Cancelled"], ["expired", "Expired"],
];
const pageSize = 50;

/// The columns of tasks: only those `states` have it, and if it `isRare`, only if a task has a value. `kind` is a class.
const columns = [
	{ label: "Key", value: ({ key }) => key !== undefined && bdi(key, { class: "cut" }), isRare: true },
	{ label: "Content", value: content, kind: "content" },
	{ label: "Attempt", value: (task) => count(task.attempt), kind: "number" },
	{ label: "Worker", value: ({ worker }) => worker !== undefined && h("a", { href: `#/workers${query({ match: worker })}` }, bdi(worker)), isRare: true, states: ["dispatched", "done", "dead"] },
	{ label: "Error", value: ({ error }) => error !== undefined && bdi(error.split("\n", 1)[0], { class: "cut", title: plain(error.slice(0, 1000)) }), isRare: true },
	{ label: "From", value: ({ origin }) => origin !== undefined && queueLink(origin), isRare: true },
	{ label: "Enqueued", value: (task) => ago(task.enqueued), kind: "wide" },
	{ label: "Due", value: (task) => ago(task.due), states: ["delayed"] },
	{ label: "Taken", value: (task) => ago(task.dispatched), states: ["dispatched"] },
	{ label: "Lease ends", value: (task) => ago(task.lease_end), states: ["dispatched"] },
	{ label: "Died", value: (task) => task.died !== undefined && ago(task.died), isRare: true, states: ["dead", "ready"] },
	{ label: "Finished", value: (task) => ago(task.finished), states: ["done", "cancelled", "expired"] },
];

function link(name, state) {
	return queueAddress(name) + query({ state });
}

function content(task) {
	if (task.content_hidden) return h("span.quiet", "hidden");
	if (task.content_start === undefined) return h("code", oneLine(task.content ?? "null"));
	return h("div.cut", h("code", oneLine(task.content_start), "…"), h("small", bytes(task.content_bytes)));
}

function scrollToTasks() {
	document.getElementById("tasks").scrollIntoView();
}

export class Queue extends Page {
	span = "1m";

	leave() {
		this.configuration.leave();
	}

	read({ name, parameters }) {
		this.name = name;
		this.title = plain(name);
		this.configuration ??= new Configuration(this.app, name);
		const state = parameters.get("state");
		this.state = states.some(([name]) => name === state) ? state : undefined;
		// The tasks that the pages of the table begin behind.
		this.behind = [];
	}

	statistics() {
		return `/stats/${named(this.name)}${query({ history: this.span })}`;
	}

	tasks() {
		return `/peek/${named(this.name)}${query({ state: this.state, n: pageSize, content_limit: 300, after: this.behind.at(-1) })}`;
	}

	paths() {
		if (this.name === "") return [];
		return [this.statistics(), this.state && this.tasks(), ...this.configuration.paths()].filter(Boolean);
	}

	view() {
		const answer = this.latest("figures", this.statistics());
		const none = this.name === "" ? h("p.empty", "The address names no queue.") : missing(answer);
		if (none) return [h("h1", { key: "name" }, bdi(this.name)), none];
		const figures = answer.json;
		// What is there to see: a queue of only dead tasks begins with those.
		this.state ??= states.find(([name]) => figures[name] > 0)?.[0] ?? "ready";
		return [
			crumbs(this.name, (prefix) => `#/queues${query({ prefix })}`),
			this.head(figures),
			this.notices(figures),
			this.tiles(figures),
			this.charts(figures),
			this.table(figures),
			this.configuration.view(),
			this.totals(figures.totals),
		];
	}

	/// How emq sends the tasks itself, if it does and the token may see it.
	get push() {
		return this.configuration.current?.push;
	}

	head(figures) {
		const verb = figures.paused ? "resume" : "pause";
		const { app, name } = this;
		const request = ["POST", `/${verb}/${named(name)}`];
		return h("div.head", { key: "head" },
			h("h1", bdi(name)), badges(figures),
			h("div.actions",
				may("manage", name) && [
					requestButton(figures.paused ? "Resume" : "Pause", request, () => app.perform(
						...request, undefined, () => `${figures.paused ? "Resumed" : "Paused"} the queue.`)),
					button("Kick…", () => this.act(actions.kick), { disabled: !figures.dead && !figures.delayed && !figures.totals.received }),
					button("Move…", () => this.act(actions.move)),
					button("Purge…", () => this.act(actions.purge), { class: "danger" }),
				],
				may("enqueue", name) && button("Add a task…", () => enqueue(app, "Add a task", { queue: name }), { class: "primary" })));
	}

	/// Opens a dialog that says how many tasks there are now.
	async act(action) {
		try {
			action(this.app, this.name, await send("GET", `/stats/${named(this.name)}`), this.state);
		} catch (error) {
			this.app.refuse(error);
		}
	}

	notices(figures) {
		const { circuit } = figures;
		const isFailing = circuit && circuit.state !== "closed";
		return h("div.notices", { key: "notices" },
			figures.paused && h("p.notice.waiting", { key: "paused" }, h("b", "Paused"), " ", ago(figures.paused_since), ". Tasks are kept and not dispatched."),
			states.every(([name]) => figures[name] === 0) && !figures.paused && !figures.waiters && Object.values(figures.totals).every((total) => !total)
				&& h("p.notice.unknown", { key: "new" }, "Nothing has happened here in the last hour. Check the name, if you expect tasks."),
			isFailing && h("p.notice.bad", { key: "circuit", role: "alert" }, h("b", "The receiver fails"),
				` (${many(circuit.failures, "time")} in a row). `,
				circuit.state === "open" ? ["emq tries again ", ago(circuit.until), "."] : "One task tries whether it works again."));
	}

	tiles(figures) {
		const { push } = this;
		return [
			h("div.tiles", { key: "tiles" },
				stateTiles(figures, (name) => ({ href: link(this.name, name), onclick: scrollToTasks })),
				h("div.tile.long", h("span", "Oldest ready"), h("b", duration(figures.ready ? figures.oldest_ready : null))),
				!figures.pushed && h("div.tile", h("span", "Waiting workers"), h("b", count(figures.waiters))),
				rateTile(figures.rates)),
			(push || figures.circuit) && card("Push", { key: "push" }, facts([
				push && ["Target", push.url ? [badge(push.method ?? "POST", "enqueued"), " ", bdi(push.url)] : "each task's own"],
				["Circuit", figures.circuit ? badge(figures.circuit.state, figures.circuit.state === "closed" ? "good" : "bad") : "none"],
				figures.circuit && ["Failures in a row", count(figures.circuit.failures)],
				figures.circuit?.until && ["Tries again", ago(figures.circuit.until)],
				push && ["At once", count(push.concurrency ?? 10)],
				push?.rate && ["Rate at most", push.rate],
			])),
		];
	}

	charts({ history }) {
		if (!history) return null;
		const draw = (label, ...others) => card(undefined, { key: label }, chart(history, label, ...others));
		return h("section.charts", { key: "charts", "aria-label": "Over time" },
			h("header", h("h2", history.interval === 60 ? "The last hour" : "The last day"), segments("Span", [["1m", "Hour"], ["5m", "Day"]], this.span, (span) => this.set({ span }))),
			h("div.columns.three.five",
				card(undefined, { key: "rates" }, rateChart(history)),
				draw("Ready and dead tasks", short, ["ready", "ready", history.ready], ["dead", "dead", history.dead]),
				draw("Age of the oldest", duration, ["oldest", "delayed", history.oldest_ready]),
				draw("Waiting time", duration, ["mean", "ready", history.wait_mean], ["longest", "delayed", history.wait_max]),
				draw("Run time", duration, ["mean", "done", history.run_mean], ["longest", "dispatched", history.run_max])));
	}

	show(state) {
		this.app.replace(link(this.name, state));
	}

	tabs(figures) {
		const names = states.map(([name]) => name);
		return h("div.tabs", { role: "tablist", "aria-label": "Tasks by state", onkeydown: (event) => {
			const place = names.indexOf(this.state);
			const next = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: names.length - 1 }[event.key];
			if (next === undefined) return;
			event.preventDefault();
			const index = (next + names.length) % names.length;
			event.currentTarget.children[index].focus();
			this.show(names[index]);
		} }, states.map(([name, label]) => h(
			"button", {
				role: "tab", id: `tab-${name}`, "aria-selected": name === this.state, "aria-controls": "panel",
				tabindex: name === this.state ? "0" : "-1", onclick: () => this.show(name),
			}, label, " ", h("b", short(figures[name])))));
	}

	/// The tasks of the page that is shown: `{ tasks, isOld, isLost, failure }`, or undefined.
	list() {
		const { state } = this;
		const answer = this.app.data(this.tasks());
		// The task that the page begins behind may leave its state. What was there stays readable.
		const isLost = answer?.failure?.status === 404 && this.behind.length > 0;
		if (answer && !isLost && !answer.failure && answer !== this.taken?.answer) {
			this.taken = { answer, state, tasks: elements(answer.text).map(readTask) };
		}
		if (answer?.failure && !isLost) return { failure: answer };
		if (this.taken?.state !== state) return isLost ? { tasks: [], isLost } : undefined;
		return { tasks: this.taken.tasks, isOld: !answer, isLost };
	}

	table(figures) {
		const list = this.list();
		return h("section.tasks", { key: "tasks", id: "tasks", "aria-label": "Tasks" },
			this.tabs(figures),
			h("div", { role: "tabpanel", id: "panel", "aria-labelledby": `tab-${this.state}`, tabindex: "-1" },
				!list ? h("p.empty", "Loading…")
					: list.failure ? missing(list.failure)
						: [
							this.state === "dead" && figures.dead > 0 && h("p.grouped", { key: "grouped" },
								h("a", { href: `#/dead${query({ match: this.name })}` }, "Grouped by error")),
							this.rows(list), this.pager(list, figures[this.state]),
						]));
	}

	rows({ tasks, isOld, isLost }) {
		if (tasks.length === 0 && !isLost) {
			const label = states.find(([name]) => name === this.state)[1].toLowerCase();
			const isRecord = ["done", "cancelled", "expired"].includes(this.state);
			return h("p.empty", { key: "none" }, `No ${label} tasks here.${isRecord ? " Records stay only if a task or the queue has “keep”." : ""}`);
		}
		const shown = columns.filter((column) => (!column.states || column.states.includes(this.state))
			&& (!column.isRare || tasks.some((task) => column.value(task))));
		return [
			isLost && h("p.notice.waiting", { key: "lost" }, "The list has moved on: the task that this page begins behind is no longer here."),
			h("div.table-box", { key: "table", class: (isOld || isLost) && "old" }, table(
				[["Task", ({ id }) => taskLink(id)], ...shown.map(({ label, value, kind }) => [label, value, kind])], tasks)),
		];
	}

	pager({ tasks, isLost, isOld }, total) {
		const first = this.behind.length * pageSize;
		if (first === 0 && total <= pageSize && tasks.length < pageSize) return null;
		const turn = (behind) => {
			this.set({ behind });
			scrollToTasks();
		};
		return h("div.pager", { key: "pager" },
			h("span.quiet", tasks.length ? `${count(first + 1)} to ${count(first + tasks.length)} of ${count(total)}` : ""),
			button("First", () => turn([]), { disabled: first === 0 }),
			button("Previous", () => turn(this.behind.slice(0, -1)), { disabled: first === 0 }),
			button("Next", () => turn([...this.behind, tasks.at(-1).id]), {
				disabled: isLost || isOld || tasks.length < pageSize || first + tasks.length >= total,
			}));
	}

	totals(totals) {
		return h("section.quiet.totals", { key: "totals", "aria-label": "Totals" }, "In all: ", Object.entries(totals).map(
			([name, value]) => value > 0 && h("span", { key: name }, `${name.replaceAll("_", " ")} `, h("b", count(value)))));
	}
}
