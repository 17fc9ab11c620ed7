/**
 * Verdicts wait here until the server has them: each an entry of its own in localStorage, written before the next candidate
 * is shown and dropped once confirmed. Its `request_id` makes sending again harmless.
 * Events: `change`; `confirmed` with {entry, decision}.
 */
import { Refusal, call, candidate } from "./api.js";

const ALL = "segsvc.outbox|";

export class Outbox extends EventTarget {
	entries = []; // oldest first
	trouble = null; // the refusal that keeps them waiting
	tags = new Map(); // what was seen last of each candidate
	#last = 0; #failures = 0; #timer; #sending;

	constructor(reader) {
		super();
		this.prefix = `${ALL}${encodeURIComponent(reader)}|`;
		this.#load();
		addEventListener("storage", ({ key }) => key?.startsWith(ALL) && this.#load());
		for (const back of ["online", "focus"]) addEventListener(back, () => this.send());
	}

	#load() {
		this.entries = Object.keys(localStorage).filter((key) => key.startsWith(this.prefix))
			.map((key) => JSON.parse(localStorage[key])).sort((a, b) => a.sequence - b.sequence);
		this.#changed();
	}
	#key(entry) { return this.prefix + entry.request_id; }
	#save(entry) { localStorage.setItem(this.#key(entry), JSON.stringify(entry)); }
	#changed() { this.dispatchEvent(new Event("change")); }

	get waiting() { return this.entries.filter((entry) => !entry.problem); }
	/** Those that need a person; a conflict has what came `first`. */
	get hard() { return this.entries.filter((entry) => entry.problem); }
	find(request_id) { return this.entries.find((entry) => entry.request_id === request_id); }

	/** Who else decided in this browser and has verdicts waiting. */
	others() {
		const keys = Object.keys(localStorage).filter((key) => key.startsWith(ALL) && !key.startsWith(this.prefix));
		return [...new Set(keys.map((key) => decodeURIComponent(key.split("|")[1])))];
	}

	/** A verdict builds on what was seen. */
	saw({ candidate_id, tag }) { this.tags.set(candidate_id, `"${tag}"`); }

	/** Takes {run, candidate_id, class_name, body, undoes_request?}; throws where the browser has no room. */
	add(entry) {
		this.#last = Math.max(this.#last + 1, Date.now() * 1000);
		entry = { ...entry, tag: this.tags.get(entry.candidate_id), request_id: uuid(), sequence: this.#last };
		this.#save(entry);
		this.entries.push(entry);
		return entry;
	}

	remove(entry) {
		localStorage.removeItem(this.#key(entry));
		this.entries = this.entries.filter((other) => other.request_id !== entry.request_id);
		this.#changed();
	}

	/** Sends a refused one again, on top of what the server has now. */
	again(entry) {
		Object.assign(entry, { problem: null, first: null });
		this.#save(entry);
		this.send();
	}

	/** Sends in order what waits; of several tabs one at a time. */
	async send() {
		if (this.#sending) return;
		this.#sending = true;
		clearTimeout(this.#timer);
		this.#changed();
		const work = () => this.#drain();
		await (navigator.locks ? navigator.locks.request(this.prefix, work) : work());
		this.#sending = false;
		this.#changed();
		const wait_s = this.trouble && Math.max(this.trouble.wait_s, Math.min(2 ** this.#failures, 30));
		if (this.#next()) this.#timer = setTimeout(() => this.send(), wait_s * 1000);
	}

	#next() {
		const held = new Set(); // a later word on a candidate waits for the earlier one
		return this.entries.find(({ problem, candidate_id: id }) => !problem && !held.has(id) || !held.add(id));
	}

	async #drain() {
		this.trouble = null;
		for (let entry; (entry = this.#next());) {
			if (!localStorage[this.#key(entry)]) { this.#load(); continue; } // another tab sent it
			const { candidate_id, run, request_id, body } = entry;
			try {
				entry.tag ??= (await call("GET", candidate(candidate_id, run))).etag;
				const { value, etag } = await call("POST", candidate(candidate_id, run, "/decisions"), { ...body, request_id },
					{ "If-Match": entry.tag });
				this.#confirm(entry, value, etag);
			} catch (error) {
				if (!(error instanceof Refusal)) throw error;
				const { status, problem, message } = error;
				if ([0, 401, 408, 429].includes(status) || status >= 500) {
					this.#failures++;
					this.trouble = error;
					return;
				}
				Object.assign(entry, { problem: message, first: problem.first, tag: null });
				this.#save(entry);
			}
			this.#failures = 0;
			this.#changed();
		}
	}

	/** It is let go only once what comes after it on the same candidate builds on it. */
	#confirm(entry, decision, tag) {
		this.tags.set(entry.candidate_id, tag);
		for (const other of this.entries) {
			if (other === entry || other.candidate_id !== entry.candidate_id) continue;
			other.tag = tag;
			if (other.undoes_request === entry.request_id) other.body.undoes = decision.decision_id;
			this.#save(other);
		}
		this.remove(entry);
		this.dispatchEvent(new CustomEvent("confirmed", { detail: { entry, decision } }));
	}
}

/** crypto.randomUUID is missing on plain http. */
const uuid = () => crypto.randomUUID?.() ?? "10000000-1000-4000-8000-100000000000".replace(/[018]/g,
	(digit) => (digit ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> digit / 4).toString(16));
