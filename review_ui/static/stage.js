/** The stage: a candidate with its surroundings. Zoom, contrast and opacity stay for the next one; pan and `wide` do not. */
import { $, afterPaint, keep, kept } from "./dom.js";
import { blank, drawMark, drawPictures } from "./drawing.js";
import { AT_FIRST, frame, region, regionUrl, serves } from "./frame.js";
import { picture } from "./pictures.js";

const CONTRASTS = ["", "contrast(1.6)", "brightness(1.5) contrast(2)", "brightness(2.2)"];

export class Stage {
	item = null;
	painted = 0; // when the item was first seen, as events tell time; 0 before
	editor = null; // draws instead of the mark, and has the pointers
	element = $("stage");
	view = { ...AT_FIRST, contrast: 0, opacity: 0.6, ...kept("view") };
	#layers = []; #sharpening;

	/** number(item): the place of its class in the list; seen(item): it is painted. */
	constructor(number, seen) {
		Object.assign(this, { number, seen });
		const measure = () => {
			this.size = { width: this.element.clientWidth || 1, height: this.element.clientHeight || 1 };
			this.item && this.#moved();
		};
		new ResizeObserver(measure).observe(this.element);
		measure();
	}

	#at(item, view = this.view) { return region(item, this.size, frame(item, this.size, view)); }

	#url(item) { return regionUrl(item, this.#at(item, { ...AT_FIRST, zoom: this.view.zoom })); }

	/** Fetches and decodes what `show` will want. */
	prepare(item) { picture(this.#url(item)); }

	show(item) {
		Object.assign(this.view, AT_FIRST, { zoom: this.view.zoom });
		Object.assign(this, { item, painted: 0 });
		this.#layers = [];
		$("gone").hidden = true;
		this.element.className = item ? "loading" : "empty";
		item && this.#fetch();
	}

	#fetch() {
		const { item } = this, at = this.#at(item), found = picture(regionUrl(item, at));
		const use = () => {
			const { bitmap, gone, again } = found;
			if (item !== this.item) return;
			bitmap && this.#layers.push({ bitmap, at });
			$("gone").hidden = this.#layers.length;
			$("gone-why").textContent = gone;
			again && setTimeout(() => item === this.item && this.#fetch(), 1500);
			this.draw();
			this.painted || afterPaint(() => this.#shown(item));
		};
		this.draw();
		found.bitmap ? use() : found.ready.then(use);
	}

	#shown(item) {
		if (item !== this.item || this.painted) return;
		this.painted = performance.now();
		this.element.className = "";
		this.element.dataset.candidate = item.candidate_id;
		this.seen(item);
		const { width_px: x1, height_px: y1 } = item, image = $("map").firstElementChild;
		image.src = regionUrl(item, { x0: 0, y0: 0, x1, y1, width: Math.min(256, x1) });
		image.decode().then(() => { this.mapped = item.image_id + item.frame; this.item && this.draw(); }, () => {});
	}

	draw() {
		const { item, size, view, editor } = this, at = this.frame = frame(item, size, view);
		drawPictures(blank($("picture"), size), this.#layers, at);
		$("picture").style.filter = CONTRASTS[view.contrast];
		const pen = blank($("mark"), size);
		editor ? editor.draw(pen, at) : drawMark(pen, item, this.number(item), at, view.opacity);
		// the whole image, and where in it one is
		const { width_px, height_px } = item, { x0, y0, x1, y1 } = this.#at(item), map = $("map");
		map.hidden = this.mapped !== item.image_id + item.frame || (x1 - x0 >= width_px && y1 - y0 >= height_px);
		const part = (n, of) => `${n / of * 100}%`;
		Object.assign(map.lastElementChild.style, { left: part(x0, width_px), top: part(y0, height_px),
			width: part(x1 - x0, width_px), height: part(y1 - y0, height_px) });
	}

	#moved() {
		const { zoom, contrast, opacity } = this.view;
		this.draw();
		keep("view", { zoom, contrast, opacity });
		clearTimeout(this.#sharpening);
		this.#sharpening = setTimeout(() => {
			if (this.item && !this.#layers.some((layer) => serves(layer.at, this.#at(this.item)))) this.#fetch();
		}, 120);
	}

	/** Closer by `factor` around a place on the stage; 0: as at first. */
	zoom(factor, x = this.size.width / 2, y = this.size.height / 2) {
		const { item, view, size, frame: { scale, left, top } } = this;
		if (factor) {
			const near = frame(item, size, AT_FIRST).scale, whole = frame(item, size, { ...AT_FIRST, wide: 2 }).scale;
			const now = Math.min(Math.max(scale * factor, whole), Math.max(64, near));
			Object.assign(view, { zoom: now / near, wide: 0 });
			this.#centre(left + x / scale + (size.width / 2 - x) / now, top + y / scale + (size.height / 2 - y) / now);
		} else Object.assign(view, AT_FIRST);
		this.#moved();
		return `Zoom ${Math.round(view.zoom * 100)} %`;
	}

	#centre(x, y) {
		const { x0, y0, x1, y1 } = this.item;
		Object.assign(this.view, { x: x - (x0 + x1) / 2, y: y - (y0 + y1) / 2 });
	}

	/** Moves by CSS px. */
	pan(x, y) {
		const { frame: { scale, left, top }, size } = this;
		this.#centre(left + (size.width / 2 + x) / scale, top + (size.height / 2 + y) / scale);
		this.#moved();
	}

	wider() {
		const wide = (this.view.wide + 1) % 3;
		Object.assign(this.view, { wide, x: 0, y: 0 });
		this.#moved();
		return ["As at first", "Wider", "The whole image"][wide];
	}

	opacity(step) {
		const now = this.view.opacity = Math.round(Math.min(1, Math.max(0, this.view.opacity + step)) * 10) / 10;
		this.#moved();
		return `Mark ${now * 100} %`;
	}

	contrast() {
		const now = this.view.contrast = (this.view.contrast + 1) % CONTRASTS.length;
		this.#moved();
		return `Contrast ${now + 1} of ${CONTRASTS.length}`;
	}

	/** The px of the image under a pointer. */
	under({ clientX, clientY }) {
		const place = this.element.getBoundingClientRect(), { left, top, scale } = this.frame;
		return [left + (clientX - place.left) / scale, top + (clientY - place.top) / scale];
	}
}
