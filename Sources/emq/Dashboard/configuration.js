// The configuration of a queue: what is set, and a form to change it. The server checks each change while somebody types,
// by a dry run, so the page knows no rules of its own.

import { curl, may, named, request } from "./api.js";
import * as dialogs from "./dialogs.js";
import { h } from "./dom.js";
import { duration, many, plain } from "./format.js";
import { badge, card, facts, missing } from "./page.js";

const settleMilliseconds = 400;

/// The fields by group. `kind` is "seconds", "number", "text" (default), "lines", or a list of choices. `fallback` is
/// what applies if neither the queue nor the defaults say anything. `never` is what null stands for: no limit at all,
/// whatever the defaults say.
const groups = [
    ["Attempts", [
        { name: "max_retries", label: "Retries at most", kind: "number", fallback: "no limit", never: "no limit", hint: "After the first attempt; then a task is dead." },
        { name: "retry", label: "Lease", kind: "seconds", fallback: 300, hint: "How long a worker may hold a task." },
        { name: "backoff.min", label: "First pause", kind: "seconds", fallback: "none for ten attempts, then 1 s to 1 min", hint: "Before the first retry." },
        { name: "backoff.max", label: "Longest pause", kind: "seconds", fallback: 86400, hint: "Pauses grow no further." },
        { name: "backoff.doublings", label: "Doublings at most", kind: "number", fallback: "no limit", hint: "How often the pause doubles." },
        { name: "backoff.jitter", label: "Jitter", kind: "number", fallback: "0", hint: "Random part of a pause, 0 to 1." },
    ]],
    ["Lifetime", [
        { name: "expiry", label: "Expiry", kind: "seconds", fallback: 86400, never: "never", hint: "How long a task may wait or run in all." },
        { name: "on_expiry", label: "Expired tasks", kind: [["delete", "are deleted"], ["dead", "become dead"]], fallback: "are deleted" },
        { name: "keep", label: "Keep records", kind: "seconds", fallback: 0, hint: "Of done, cancelled and expired tasks." },
        { name: "dead_letter", label: "Dead tasks go to", fallback: "nowhere: they stay", never: "nowhere", hint: "The queue where they are ready." },
        { name: "dead_expiry", label: "Keep dead tasks", kind: "seconds", fallback: 1209600, hint: "Then they are deleted." },
    ]],
    ["Queue", [
        { name: "priority", label: "Priority", kind: "number", fallback: "0", hint: "−128 to 127, higher first." },
        { name: "max_length", label: "Tasks at most", kind: "number", fallback: "no limit", never: "no limit", hint: "Beyond it, an enqueue gets 429." },
        { name: "show_content", label: "Contents", kind: [["true", "are shown"], ["false", "are hidden from all but admins"]], fallback: "are shown" },
    ]],
    ["Push", [
        { name: "push.url", label: "URL", isWide: true, fallback: "none: workers fetch the tasks, or each task has its own", hint: "Where emq sends the tasks." },
        { name: "push.method", label: "Method", fallback: "POST" },
        { name: "push.timeout", label: "Timeout", kind: "seconds", fallback: 30, hint: "Of one request." },
        { name: "push.concurrency", label: "Requests at once", kind: "number", fallback: "10", hint: "At most 1,000." },
        { name: "push.rate", label: "Rate at most", fallback: "no limit", hint: "Such as 10/s, 21.5/m, 5/h." },
        { name: "push.circuit.failures", label: "Circuit opens after", kind: "number", fallback: "never", hint: "So many failures in a row." },
        { name: "push.circuit.pause", label: "Circuit stays open", kind: "seconds", fallback: "no circuit", hint: "Until one task tries again." },
        { name: "push.on_dead", label: "Notify of dead tasks", fallback: "nobody", hint: "A URL that gets each task that dies." },
        { name: "push.signature", label: "Signature", kind: [["emq", "Emq-Signature"], ["standard", "Standard Webhooks"]], fallback: "Emq-Signature" },
        { name: "push.secrets", label: "Secrets", kind: "lines", fallback: "none: not signed", hint: "One a line, the current one first. *** keeps one." },
        { name: "push.headers", label: "Headers", kind: "lines", fallback: "none", hint: "Name: value, one a line. *** keeps a value." },
        { name: "push.ca", label: "Issuers of certificates", kind: "lines", isWide: true, fallback: "those that the server trusts", hint: "In PEM. Then emq accepts only their certificates." },
    ]],
];
const fields = groups.flatMap(([, fields]) => fields);

/// The value of a field in a configuration, as a text for the form; undefined if it has none, null if it says null.
function valueOf(configuration, { name }) {
    const { push } = configuration;
    if (name === "push.secrets") return push?.secrets?.join("\n") ?? push?.secret;
    if (name === "push.headers") return push?.headers && Object.entries(push.headers).map(([name, value]) => `${name}: ${value}`).join("\n");
    // A number is a pause that does not grow.
    if (name.startsWith("backoff.") && typeof configuration.backoff === "number") {
        return name === "backoff.min" || name === "backoff.max" ? String(configuration.backoff) : undefined;
    }
    const value = name.split(".").reduce((part, member) => part?.[member], configuration);
    return value === undefined || value === null ? value : String(value);
}

const units = { ms: 0.001, s: 1, min: 60, m: 60, h: 3600, d: 86400 };

/// What to send for a text. What is not a number goes as it is: the server explains what it wants.
function read({ kind, name }, text) {
    if (kind === "seconds") {
        const [, number, unit] = /^([\d.]+) *(ms|s|min|m|h|d)$/.exec(text.trim()) ?? [];
        if (unit && Number.isFinite(Number(number))) return Number((Number(number) * units[unit]).toFixed(3));
    }
    if (kind === "seconds" || kind === "number") return Number.isFinite(Number(text)) ? Number(text) : text.trim();
    if (name === "show_content") return text === "true";
    return kind === "lines" ? text : text.trim();
}

function lines(text) {
    return text.split("\n").filter((line) => line.trim() !== "");
}

/// A value for people.
function told(field, value) {
    if (value === undefined) return "not set";
    if (value === null) return field.never;
    if (Array.isArray(field.kind)) return field.kind.find(([choice]) => choice === value)?.[1] ?? value;
    if (field.name === "push.secrets") return many(lines(value).length, "secret");
    if (field.kind === "seconds" && typeof read(field, value) === "number") return duration(read(field, value));
    return plain(value);
}

// What has been typed and not saved, by queue: it is there again when somebody comes back to the page.
const drafts = new Map();

addEventListener("beforeunload", (event) => {
    if (drafts.size > 0) event.preventDefault();
});

/// The card with the configuration. `current` is the configuration, or undefined if it is not known.
export class Configuration {
    constructor(app, name) {
        this.app = app;
        this.name = name;
        this.isEditing = drafts.has(name);
    }

    get isOffered() {
        return may("admin", this.name);
    }

    get path() {
        return `/config/${named(this.name)}`;
    }

    paths() {
        return this.isOffered ? [this.path, "/defaults/"] : [];
    }

    leave() {
        clearTimeout(this.timer);
    }

    get current() {
        return this.app.data(this.path)?.json;
    }

    get defaults() {
        return this.app.data("/defaults/")?.json ?? {};
    }

    get draft() {
        return drafts.get(this.name);
    }

    /// The fields whose values in the form are not those of the server.
    changes() {
        return this.draft ? fields.filter((field) => this.draft.values.has(field.name)
            && (this.draft.values.get(field.name) ?? null) !== (valueOf(this.current, field) ?? (field.never && valueOf(this.current, field) === null ? null : ""))) : [];
    }

    value(field) {
        return this.draft?.values.has(field.name) ? this.draft.values.get(field.name) : valueOf(this.current, field);
    }

    /// What applies if the field is empty.
    fallback(field) {
        const value = field.name.startsWith("push.") ? undefined : valueOf(this.defaults, field);
        if (value !== undefined) return `${told(field, value)} (default of the server)`;
        return typeof field.fallback === "number" ? duration(field.fallback) : field.fallback;
    }

    view() {
        if (!this.isOffered || this.name === "") return null;
        const answer = this.app.data(this.path);
        const none = missing(answer, "the configuration");
        if (none) return card("Configuration", { key: "configuration" }, none);
        const isNarrow = !this.isEditing;
        return card("Configuration", {
            key: "configuration", actions: isNarrow && h("button", { type: "button", onclick: () => {
                this.isEditing = true;
                this.app.update();
            } }, "Change…"),
        }, isNarrow ? this.summary() : this.form());
    }

    summary() {
        const known = fields.filter((field) => valueOf(this.current, field) !== undefined);
        if (known.length === 0) return h("p", { key: "summary", class: "quiet" }, "Nothing is set for this queue. The defaults apply.");
        return h("div", { key: "summary" }, facts(known.map((field) => [field.label, h("bdi", null, told(field, valueOf(this.current, field)))])));
    }

    // MARK: The form

    change(field, value) {
        if (!this.draft) drafts.set(this.name, { values: new Map(), base: this.current });
        this.draft.values.set(field.name, value);
        this.flaw = undefined;
        this.isChecked = false;
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.check(), settleMilliseconds);
        this.app.update();
    }

    /// The request that makes the changes: a PATCH of what has changed. Only a PUT can say null.
    request() {
        const patch = {};
        const set = (path, value) => {
            const names = path.split(".");
            const last = names.pop();
            names.reduce((part, name) => (part[name] ??= {}), patch)[last] = value;
        };
        const changes = this.changes();
        const isEmpty = (prefix) => fields.every((field) => !field.name.startsWith(prefix) || (this.value(field) ?? "") === "");
        let hasNull = false;
        for (const field of changes) {
            const value = this.draft.values.get(field.name);
            const group = ["push.circuit", "backoff"].find((name) => field.name.startsWith(`${name}.`) && isEmpty(`${name}.`));
            if (group) set(group, null);
            else if (field.name === "push.secrets") set(value.trim() ? "push.secrets" : "push.secret", value.trim() ? lines(value) : null);
            else if (field.name === "push.headers") set("push.headers", this.headers(value));
            else if (value === null && field.name === "expiry") set(field.name, "never");
            else if (value === null) hasNull = true;
            else set(field.name, value.trim() === "" ? null : read(field, value));
        }
        if (patch.backoff && typeof this.current.backoff === "number") {
            for (const field of fields) if (field.name.startsWith("backoff.") && this.value(field)) set(field.name, read(field, this.value(field)));
        }
        if (this.current.push && isEmpty("push.")) patch.push = null;
        if (!hasNull) return ["PATCH", this.path, JSON.stringify(patch)];
        const whole = merge(this.current, patch);
        for (const field of changes) if (this.draft.values.get(field.name) === null) whole[field.name] = null;
        return ["PUT", this.path, JSON.stringify(whole)];
    }

    headers(text) {
        const headers = Object.fromEntries(Object.keys(this.current.push?.headers ?? {}).map((name) => [name, null]));
        for (const line of lines(text)) {
            const colon = line.indexOf(":");
            // Without a colon, the server says what is wrong with the name.
            headers[(colon < 0 ? line : line.slice(0, colon)).trim()] = colon < 0 ? "" : line.slice(colon + 1).trim();
        }
        return Object.keys(headers).length ? headers : null;
    }

    /// Notes what the server says against the form.
    refuse(error) {
        if (error.status === undefined) throw error;
        if (error.status === 401) this.app.refuse(error);
        const name = (error.field ?? "").replace(/^push\.secret$/, "push.secrets");
        const field = fields.find((field) => field.name === name) ?? fields.find((field) => name.startsWith(`${field.name}.`) || name.startsWith(`${field.name}[`))
            ?? (name && fields.find((field) => field.name.startsWith(`${name}.`)));
        this.flaw = { field: field?.name, message: error.message };
        this.app.update();
    }

    async check() {
        if (this.changes().length === 0) return;
        const [method, path, body] = this.request();
        const number = (this.number = (this.number ?? 0) + 1);
        try {
            await request(method, `${path}?dry_run=true`, body);
            if (number === this.number) this.isChecked = true;
            this.app.update();
        } catch (error) {
            if (number === this.number) this.refuse(error);
        }
    }

    async save() {
        clearTimeout(this.timer);
        this.number = undefined;
        const sent = this.request();
        try {
            await request(sent[0], `${sent[1]}?dry_run=true`, sent[2]);
        } catch (error) {
            this.refuse(error);
            document.querySelector("#configuration-form [aria-invalid]")?.focus();
            return;
        }
        const isSure = await dialogs.open("Save the configuration", (close) => [
            h("div", { class: "dialog-body" }, h("ul", { class: "diff" }, this.changes().map((field) => h("li", null, h("b", null, field.label), " ",
                h("del", null, told(field, valueOf(this.current, field))), " → ",
                h("ins", null, this.draft.values.get(field.name) === "" ? `not set: ${this.fallback(field)}` : told(field, this.draft.values.get(field.name)))))),
                h("p", { class: "quiet" }, "Tasks that are already queued follow it too, except for their priority and their expiry.")),
            h("footer", null, dialogs.copyButton(() => curl(...sent)), h("span", { class: "space" }),
                h("button", { type: "button", onclick: () => close() }, "Keep as it is"),
                h("button", { type: "submit", class: "primary", autofocus: true, onclick: () => close(true) }, "Save")),
        ]);
        if (!isSure) return;
        try {
            await request(...sent);
        } catch (error) {
            return this.refuse(error);
        }
        dialogs.say("Saved.", "good");
        this.discard();
        this.app.refresh();
    }

    discard() {
        clearTimeout(this.timer);
        this.number = this.flaw = undefined;
        drafts.delete(this.name);
        this.isEditing = false;
        this.app.update();
    }

    form() {
        const changes = this.changes();
        const { base } = this.draft ?? {};
        const moved = base ? fields.filter((field) => valueOf(base, field) !== valueOf(this.current, field)) : [];
        return h("form", { key: "form", id: "configuration-form", onsubmit: (event) => {
            event.preventDefault();
            if (changes.length) this.save();
        } },
            moved.length > 0 && h("p", { key: "moved", class: "notice waiting", role: "status" }, h("b", null, "The configuration has changed on the server meanwhile: "),
                moved.map((field) => `${field.label} is now ${told(field, valueOf(this.current, field))}`).join(", "), ". Your own changes are still here."),
            groups.map(([title, fields]) => h("fieldset", { key: title }, h("legend", null, title),
                h("div", { class: "form" }, fields.map((field) => this.field(field))))),
            h("div", { key: "foot", class: "form-foot" },
                h("span", { role: "status", class: this.flaw ? "bad" : "quiet" }, this.flaw ? this.flaw.field ? "The server does not accept this yet." : this.flaw.message
                    : changes.length === 0 ? "No changes." : `${many(changes.length, "change")}${this.isChecked ? "; the server accepts them" : ""}.`),
                h("span", { class: "space" }),
                h("button", { type: "button", onclick: () => this.discard() }, changes.length ? "Discard" : "Close"),
                h("button", { type: "submit", class: "primary", disabled: changes.length === 0 || this.flaw !== undefined }, "Save…")));
    }

    field(field) {
        const { name, label, kind, hint, never, isWide } = field;
        const id = `field-${name}`;
        const value = this.value(field);
        const flaw = this.flaw?.field === name ? this.flaw.message : undefined;
        const isChanged = this.changes().includes(field);
        const fallback = this.fallback(field);
        const common = {
            id, name, value: value ?? "", "aria-invalid": flaw ? "true" : undefined, "aria-describedby": `${id}-hint`, disabled: value === null,
            oninput: (event) => this.change(field, event.target.value),
        };
        const seconds = kind === "seconds" && value ? read(field, value) : undefined;
        return h("div", { key: name, class: `field${isWide || kind === "lines" ? " whole" : ""}${isChanged ? " changed" : ""}` },
            h("label", { for: id }, label, kind === "seconds" && h("small", null, " (s)")),
            Array.isArray(kind) ? h("select", common, h("option", { value: "" }, `Default: ${fallback}`), kind.map(([choice, text]) => h("option", { value: choice }, text)))
                : kind === "lines" ? h("textarea", { ...common, rows: 2, placeholder: fallback, spellcheck: "false", autocomplete: "off" })
                    : h("input", { ...common, placeholder: value === null ? never : fallback, autocomplete: "off", spellcheck: "false" }),
            never && (value === null || field.name === "expiry" || valueOf(this.defaults, field) !== undefined) && h("label", { class: "never" }, h("input", {
                type: "checkbox", checked: value === null, onchange: (event) => this.change(field, event.target.checked ? null : ""),
            }), never),
            h("small", { id: `${id}-hint`, class: flaw ? "bad" : "hint", role: flaw ? "alert" : undefined },
                flaw ?? [typeof seconds === "number" && `= ${duration(seconds)}. `, hint]));
    }
}

/// A JSON merge patch (RFC 7396).
function merge(target, patch) {
    const merged = { ...target };
    for (const [name, value] of Object.entries(patch)) {
        if (value === null) delete merged[name];
        else merged[name] = typeof value === "object" && !Array.isArray(value) ? merge(typeof merged[name] === "object" ? merged[name] : {}, value) : value;
    }
    return merged;
}
