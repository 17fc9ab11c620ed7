/** What this person decided, the latest last; undone at any depth, also after the page was loaded anew. */
import { call, ofRun } from "./api.js";

const brief = ({ candidate_id, class_name, request_id, body: { verdict } }) => ({ candidate_id, class_name, request_id, verdict });

export class Past {
	decisions = []; // {candidate_id, class_name, verdict, request_id, decision_id, item, batch}
	#undone = new Set(); // ids of decisions and requests, though the server may not know yet

	constructor(run, reader, outbox) {
		Object.assign(this, { run, reader, outbox });
		for (const { body, undoes_request } of outbox.entries) this.#undone.add(body.undoes).add(undoes_request);
		this.#undone.delete(undefined);
		this.decisions = outbox.entries.filter((entry) => entry.run === run).map(brief).filter((each) => this.#stands(each));
		outbox.addEventListener("confirmed", ({ detail: { entry, decision: { decision_id } } }) => {
			Object.assign(this.decisions.find((each) => each.request_id === entry.request_id) || {}, { decision_id });
		});
	}

	#stands({ verdict, undone, request_id, decision_id }) {
		return verdict !== "withdrawn" && !undone && !this.#undone.has(request_id) && !this.#undone.has(decision_id);
	}

	add(entry, item, batch) { this.decisions.push({ ...brief(entry), item, batch }); }

	of(id) { return this.decisions.findLast((each) => each.candidate_id === id); }

	/** The own decision of an item that holds, of this page or of an earlier one. */
	standing(item) {
		return this.of(item.candidate_id) || item.decisions.find((each) => each.reader === this.reader && this.#stands(each));
	}

	/** What is undone next: the last one, or all of one grid; the server is asked if none are known here. */
	async latest() {
		if (!this.decisions.length) {
			const { items } = (await call("GET", ofRun(this.run, "mine?limit=500"))).value;
			const pending = new Set(this.outbox.entries.map((entry) => entry.candidate_id));
			this.decisions = items.filter((each) => this.#stands(each) && !pending.has(each.candidate_id)).reverse();
		}
		const last = this.decisions.at(-1);
		return this.decisions.filter((each) => each === last || (last.batch && each.batch === last.batch));
	}

	/** Withdraws one, or drops it if the server refused it anyway. */
	withdraw(each) {
		const { candidate_id, class_name, request_id, decision_id } = each, sent = this.outbox.find(request_id);
		if (sent?.problem) this.outbox.remove(sent);
		else {
			this.outbox.add({ run: this.run, candidate_id, class_name, undoes_request: request_id,
				body: { verdict: "withdrawn", undoes: decision_id } });
		}
		this.#undone.add(decision_id ?? request_id).add(request_id ?? decision_id);
		this.decisions = this.decisions.filter((other) => other !== each);
	}
}
