// One task: its way through the states, its attempts, what it holds, and what can be done with it.

import { ask, target } from "./actions.js";
import { curl, may, named, query, request } from "./api.js";
import * as dialogs from "./dialogs.js";
import { h } from "./dom.js";
import { enqueue } from "./enqueue.js";
import { ago, bdi, bytes, count, duration, plain, serverNow, time } from "./format.js";
import { cut, layout, task as parse } from "./json.js";
import { badge, button, card, facts, mayOnlyLook, missing, Page, queueLink, state, table } from "./page.js";

const contentLimit = 262_144;
const block = (title, text) => h("pre", { tabindex: "0", "aria-label": title }, text);

const attemptColumns = [
	["Attempt", ({ attempt }) => count(attempt)],
	["Worker", ({ worker }) => (worker ? bdi(worker) : "–"), "text"],
	["Dispatched", ({ dispatched }) => time(dispatched)],
	["Length", ({ dispatched, ended }) => (ended ? duration(ended - dispatched) : `${duration(Math.max(0, Math.floor(serverNow() - dispatched)))} so far`)],
	["Outcome", ({ outcome }) => badge(outcome?.replace("_", " ") ?? "running", outcome ?? "dispatched")],
	["Error", ({ error }) => error && bdi(error), "text"],
];

export class TaskPage extends Page {
	/// The values that are shown as text, although they are JSON, or the other way around.
	asText = new Set();
	described = {};

	read({ name }) {
		this.id = name;
		this.title = `Task ${name}`;
	}

	path() {
		return `/task/${named(this.id)}?content_limit=${contentLimit}`;
	}

	view() {
		const answer = this.app.data(this.path());
		if (answer && !answer.failure && answer !== this.taken) {
			this.taken = answer;
			this.task = parse(answer.text);
		}
		const { task } = this;
		const isGone = answer?.failure?.status === 404;
		const heading = h("div.head", { key: "head" }, h("h1", "Task ", h("code", plain(this.id))), task && [
			isGone ? badge("forgotten", "unknown") : state(task.state), h("span.quiet", "in ", queueLink(task.queue)),
			dialogs.copyButton(() => curl("GET", `/task/${named(task.id)}`)),
		]);
		if (!task) {
			return [heading, isGone ? h("p.empty", "There is no such task. emq forgets a task when it has ended, unless its ", h("code", "keep"),
				" says how long to keep the record.") : missing(answer)];
		}
		return [
			heading,
			isGone && h("p.empty", { key: "gone" }, "emq has forgotten this task. This is what it was."),
			!isGone && h("div.actions", { key: "actions", role: "group", "aria-label": "Actions" }, this.actions(task)),
			card(undefined, { key: "steps", "aria-label": "Its way" }, h("ol.steps", steps(task).map(
				([label, moment, kind, isFuture]) => h(`li.${kind}`, { class: isFuture && "future" }, h("b", label), time(moment), h("div", h("small", ago(moment))))))),
			this.attempts(task),
			task.log && card("Log", { key: "log" }, block("Log", plain(task.log))),
			h("div.columns.two", { key: "texts" },
				task.content_hidden ? card("Content", { class: "wide" }, h("p.quiet", "The queue hides contents from all but admins."))
					: this.text("Content", "content", task),
				this.text("Result", "result", task), this.text("Progress", "progress", task), this.text("Metadata", "metadata", task)),
			card("Details", { key: "details" }, facts([
				task.key !== undefined && ["Key", bdi(task.key)],
				task.unique_until && ["Key taken until", time(task.unique_until)],
				["Attempt", count(task.attempt)],
				task.retries !== undefined && ["Retries", count(task.retries)],
				task.crashes && ["Crashes", count(task.crashes)],
				task.priority !== undefined && ["Priority", String(task.priority)],
				task.retry !== undefined && ["Lease", duration(task.retry)],
				task.worker && ["Worker", bdi(task.worker)],
				task.origin && ["Died in", queueLink(task.origin)],
				task.request_id && ["Request id", bdi(task.request_id)],
				task.traceparent && ["Trace", h("code", plain(task.traceparent))],
				task.request && ["Sent to", h("code", plain(JSON.stringify(task.request)))],
			])),
		];
	}

	attempts(task) {
		const attempts = task.attempts ?? [];
		if (attempts.length === 0) return task.error ? card("Error", { key: "attempts" }, h("pre", plain(task.error))) : null;
		return card("Attempts", { key: "attempts" }, table(
			attemptColumns, attempts.toReversed(), { key: ({ attempt, dispatched }) => `${attempt} ${dispatched}` }),
		task.error && !attempts.some(({ error }) => error === task.error) && h("pre.below", plain(task.error)));
	}

	/// A JSON value that a client sent: laid out, as text if it is a string, or its beginning if it is large.
	text(title, name, task) {
		const isContent = name === "content";
		const text = task[name];
		const size = task[`${name}_bytes`];
		if (text === undefined && size === undefined) return null;
		if (size !== undefined) {
			return card(title, { key: name, class: "wide", actions: h("span.quiet", `${bytes(size)}, of which this is the beginning. `,
				button("Download the task", () => this.download(task), { class: "quiet" })) },
			block(title, plain(task[`${name}_start`] ?? "")));
		}
		const isString = text.startsWith('"');
		const isText = isString !== this.asText.has(name);
		return card(title, { key: name, class: isContent ? "wide" : "", actions: h("span.quiet", bytes(new Blob([text]).size),
			isString && button(isText ? "As JSON" : "As text", () => {
				if (!this.asText.delete(name)) this.asText.add(name);
				this.app.update();
			}, { class: "quiet" }),
			dialogs.copyButton(() => text, "Copy")) },
		this.describe(title, text, isString && isText));
	}

	/// The same description for the same text.
	describe(title, text, isText) {
		const old = this.described[title];
		if (old?.text === text && old.isText === isText) return old.pre;
		const pre = block(title, isText ? cut(JSON.parse(text)) : layout(text));
		this.described[title] = { text, isText, pre };
		return pre;
	}

	async download(task) {
		try {
			const text = await request("GET", `/task/${named(task.id)}`);
			const link = document.createElement("a");
			link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
			link.download = `${task.id}.json`;
			link.click();
			setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
		} catch (error) {
			dialogs.say(error.message, "bad");
		}
	}

	actions(task) {
		const { id, queue } = task;
		const isUnfinished = ["ready", "delayed", "dispatched"].includes(task.state);
		const kick = (label, path = "/kick/", kind = "primary") => this.action(
			label, ["POST", path, { ids: [id] }], ({ kicked }) => kicked && "The task is ready.", kind);
		const mayManage = may("manage", queue);
		const actions = [
			mayManage && task.state === "delayed" && kick("Run now"),
			mayManage && task.state === "dead" && kick("Retry"),
			mayManage && task.origin && ["dead", "ready"].includes(task.state) && kick(`Retry in ${plain(task.origin)}`, "/kick/?to=origin", ""),
			mayManage && ["ready", "delayed", "dead"].includes(task.state) && button("Move…", () => this.move(task)),
			may("work", queue) && task.state === "dispatched" && this.action("Give back", ["POST", "/nak/", { ids: [id], release: true }],
				() => "The task is ready again.", "", "Give the task back",
				"The task becomes ready again, and the attempt does not count. Its worker may still be working on it."),
			may("enqueue", queue) && button("Enqueue again…", () => this.again(task), { disabled: task.content_hidden || task.content_bytes !== undefined }),
			mayManage && (isUnfinished
				? this.action("Cancel", ["DELETE", `/task/${named(id)}`], () => "Cancelled the task.", "danger", "Cancel the task",
					"No worker gets the task any more. If one holds it now, its acknowledgement will be refused.")
				: this.action("Delete", ["DELETE", `/task/${named(id)}`], () => "Deleted the record.", "danger", "Delete the record",
					"emq forgets the task and its result.")),
		].filter(Boolean);
		return actions.length ? actions : mayOnlyLook();
	}

	/// A button for a request, and one that copies the request. With a `title` and a `text`, it asks before.
	action(label, request, done, kind, title, text) {
		const [method, path, body] = request;
		return dialogs.requestButton(label, request, async () => {
			const answer = await (title ? ask(this.app, { title, danger: kind === "danger", make: () => ({ method, path, body, text }), done })
				: this.app.perform(...request, done));
			if (answer?.missing?.length || answer?.kicked === 0) dialogs.say("The task is no longer in the state that is shown.", "bad");
		}, { class: kind });
	}

	async move(task) {
		const answer = await ask(this.app, {
			title: "Move the task", action: "Move", fields: [target],
			make: ({ to }) => ({ path: `/move/${query({ to })}`, body: { ids: [task.id] }, text: "The task goes to the back of that queue." }),
			done: ({ moved }) => moved && "Moved the task.",
		});
		if (answer?.moved === 0) dialogs.say("The task was not moved: it is in another state now, or its key is taken there.", "bad");
	}

	async again(task) {
		const answer = await enqueue(this.app, "Enqueue again", {
			queue: task.origin ?? task.queue, content: task.content ?? "null", metadata: task.metadata ?? "",
			priority: task.priority ? String(task.priority) : "",
		});
		if (answer) this.app.go(`task/${answer.id}`);
	}
}

/// The moments of a task's way: label, time, state, and whether it is still to come.
function steps(task) {
	const now = serverNow();
	const moments = [["Enqueued", task.enqueued, "enqueued"]];
	for (const attempt of task.attempts ?? []) {
		moments.push([`Attempt ${attempt.attempt}`, attempt.dispatched, "dispatched"]);
		if (attempt.ended && attempt.outcome !== "done") moments.push([{ failed: "Failed", timed_out: "Lease ran out", released: "Given back" }[attempt.outcome] ?? "Ended", attempt.ended, attempt.outcome]);
	}
	if (!task.attempts && task.dispatched) moments.push([`Attempt ${task.attempt}`, task.dispatched, "dispatched"]);
	if (task.died) moments.push([task.origin ? "Died in its origin" : "Died", task.died, "dead"]);
	if (task.finished && task.finished !== task.died) moments.push([{ done: "Done", cancelled: "Cancelled", expired: "Expired", dead: "Dead" }[task.state] ?? "Ended", task.finished, task.state]);
	if (task.state === "delayed" && task.due) moments.push(["Due", task.due, "delayed"]);
	if (task.state === "dispatched" && task.lease_end) moments.push(["Lease ends", task.lease_end, "dispatched"]);
	if (task.expires && !task.finished && task.state !== "dead") moments.push(["Expires", task.expires, "expired"]);
	const most = 9;
	const shown = moments.length > most ? [...moments.slice(0, 2), ...moments.slice(2 - most)] : moments;
	return shown.map(([label, moment, kind]) => [label, moment, kind, moment > now]);
}
