// Workers: who waits for tasks, and who holds which.

import { query } from "./api.js";
import { h } from "./dom.js";
import { ago, bdi, count, many, time } from "./format.js";
import { badge, disclosure, filterField, missing, Page, pattern, queueLink, sortField, table, taskLink } from "./page.js";

const sorts = [["oldest", "Longest held first"], ["held", "Most held first"], ["last_seen", "Last seen first"], ["name", "By name"]];

const taskColumns = [
	["Task", ({ id }) => taskLink(id)],
	["Queue", ({ queue }) => queueLink(queue, { class: "cut" }), "evident"],
	["Dispatched", (task) => time(task.dispatched)],
	["Lease ends", (task) => ago(task.lease_end)],
];

export class Workers extends Page {
	title = "Workers";

	columns = [
		["Worker", ({ name, held }) => (held ? disclosure(this.opened === name, () => this.set({ opened: this.opened === name ? undefined : name }),
			bdi(name)) : h("span.cut", bdi(name)))],
		["Does", ({ held, waiting }) => (held ? badge("works", "dispatched") : waiting ? badge("waits", "done") : badge("away", "unknown")), "evident"],
		["Holds", ({ held }) => count(held), "number"],
		["Since", (worker) => ago(worker.oldest_dispatched)],
		["Waits for", ({ waiting, queues = [] }) => h("span.cut", waiting ? queues.map((name, index) => [index ? ", " : "", bdi(name)]) : "–"), "wide"],
		["Last seen", (worker) => ago(worker.last_seen)],
	];

	read({ parameters }) {
		this.match = parameters.get("match") ?? "";
		this.sort = parameters.get("sort") ?? "oldest";
	}

	change(changes) {
		const { match, sort } = { match: this.match, sort: this.sort, ...changes };
		this.app.replace(`#/workers${query({ match, sort: sort === "oldest" ? "" : sort })}`);
	}

	path() {
		return `/workers/${query({ match: pattern(this.match), sort: this.sort, n: 200 })}`;
	}

	view() {
		const answer = this.latest("workers", this.path());
		const figures = answer?.json;
		return [
			h("div.head", { key: "head" }, h("h1", "Workers"), figures && h("span.quiet", many(figures.count, "name"),
				(figures.unnamed.waiting ?? 0) + figures.unnamed.held > 0 && `; without a name: ${count(figures.unnamed.waiting)} waiting, ${many(figures.unnamed.held, "task")} held`)),
			h("div.tools", { key: "tools" },
				filterField("Filter by name", "host-7 or *.eu", this.match, (match) => this.change({ match })),
				sortField(sorts, this.sort, (sort) => this.change({ sort }))),
			missing(answer) ?? this.table(figures),
		];
	}

	table({ workers, count: total }) {
		if (workers.length === 0) {
			return h("p.empty", { key: "none" }, this.match ? "No worker has such a name."
				: ["No worker has given its name. A wait with ", h("code", '"worker": "host-7"'), " does."]);
		}
		return [
			h("div.table-box", { key: "table" }, table(this.columns, workers, {
				key: ({ name }) => name, more: (worker) => this.opened === worker.name && worker.held > 0 && this.tasks(worker),
			})),
			total > workers.length && h("p.quiet", { key: "rest" }, `${count(workers.length)} of ${count(total)}. Filter by name.`),
		];
	}

	tasks({ tasks, held }) {
		return table(taskColumns, tasks, { caption: held > tasks.length && `The ${tasks.length} held longest of ${count(held)}` });
	}
}
