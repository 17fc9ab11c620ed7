/** What is next: leased some ahead, so that two people never have the same. */
import { call, ofRun } from "./api.js";

export class Queue {
	items = []; // next first
	ended = false;
	#asking; #decided = new Set();

	/** told(progress) hears how far the run is. */
	constructor(run, order, class_name, outbox, told) { Object.assign(this, { run, order, class_name, outbox, told }); }

	/** Leases until there are `wanted` if there are fewer than `few`; the leases of the ids `shown` are renewed. */
	async fill(shown, wanted = 10, few = 6, class_name = this.class_name) {
		if (this.items.length < few) await (this.#asking ??= this.#lease(shown, wanted - this.items.length, class_name));
	}

	async #lease(shown, n, class_name) {
		try {
			const ids = () => [...shown, ...[...this.items, ...this.outbox.entries].map((each) => each.candidate_id)];
			const holding = [...new Set(ids())].slice(0, 500);
			const { value: { items, progress } } = await call("POST", ofRun(this.run, "lease"), { order: this.order, class_name, n, holding });
			const known = new Set([...holding, ...ids(), ...this.#decided]), fresh = items.filter((item) => !known.has(item.candidate_id));
			for (const item of fresh) this.outbox.saw(item);
			this.items.push(...fresh);
			this.ended = !fresh.length;
			this.told(progress);
		} finally { this.#asking = null; }
	}

	/** Takes an item out, decided or to be shown. */
	take(id, decided) {
		decided && this.#decided.add(id);
		this.items = this.items.filter((item) => item.candidate_id !== id);
	}

	/** Brings an item back to the front. */
	back(item) {
		this.#decided.delete(item.candidate_id);
		this.take(item.candidate_id);
		this.items.unshift(item);
	}

	async release() {
		const candidate_ids = this.items.splice(0).map((item) => item.candidate_id);
		await call("POST", ofRun(this.run, "release"), { candidate_ids });
	}
}
