/** What is next: leased some ahead, so that two people never have the same. */
import { call, ofRun } from "./api.js";

export class Queue {
	items = []; // next first
	ended = false;
	#asking; #decided = new Set();

	/** told(progress) hears how far the run is. */
	constructor(run, order, class_name, outbox, told) { Object.assign(this, { run, order, class_name, outbox, told }); }

	/** Leases until there are `wanted` if there are fewer than `few`; renews the leases of the ids `shown` as well. */
	async fill(shown, wanted = 10, few = 6, class_name = this.class_name) {
		await (this.items.length < few && (this.#asking ??= this.#lease(shown, wanted, class_name)));
	}

	async #lease(shown, wanted, class_name) {
		try {
			const ids = () => [...shown, ...[...this.items, ...this.outbox.entries].map((each) => each.candidate_id)];
			const holding = [...new Set(ids())], n = Math.max(1, wanted - this.items.length);
			const { value } = await call("POST", ofRun(this.run, "lease"), { order: this.order, class_name, n, holding });
			const known = new Set([...holding, ...ids(), ...this.#decided]);
			const fresh = value.items.filter((item) => !known.has(item.candidate_id));
			this.items.push(...fresh);
			this.ended = !fresh.length;
			this.told(value.progress);
		} finally { this.#asking = null; }
	}

	/** Takes an item out, decided or to be shown. */
	take(id, decided) {
		if (decided) this.#decided.add(id);
		this.items = this.items.filter((item) => item.candidate_id !== id);
	}

	/** Brings an item back to the front. */
	back(item) {
		this.#decided.delete(item.candidate_id);
		this.take(item.candidate_id);
		this.items.unshift(item);
	}

	/** Gives back what is held. */
	async release() {
		const candidate_ids = this.items.splice(0).map((item) => item.candidate_id);
		if (candidate_ids.length) await call("POST", ofRun(this.run, "release"), { candidate_ids });
	}
}
