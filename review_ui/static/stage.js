/** The stage: a candidate with its surroundings. Zoom, contrast and opacity stay from one to the next; pan and `wide` do not. */
import { $, afterPaint, keep, kept } from "./dom.js";
import { blank, drawMark, drawPictures } from "./drawing.js";
import { frame, region, regionUrl, serves, thumbnail } from "./frame.js";
import { picture } from "./pictures.js";

const AT_FIRST = { wide: 0, x: 0, y: 0 };
const CONTRASTS = [["", "Contrast as it is"], ["contrast(1.6)", "More contrast"],
	["brightness(1.5) contrast(2)", "Most contrast"], ["brightness(2.2)", "Brighter"]];

export class Stage {
	item = null;
	painted = 0; // when the item was first seen, as events tell time; 0 before
	editor = null; // draws instead of the mark, and has the pointers
	element = $("stage");
	view = { ...kept("view", { zoom: 1, contrast: 0, opacity: 0.6 }), ...AT_FIRST };
	#layers = []; #sharpening;

	/** `number(item)`: the place of its class in the list; `seen(item)`: it is painted. */
	constructor(number, seen) {
		Object.assign(this, { number, seen });
		new ResizeObserver(() => this.#measure()).observe(this.element);
		this.#measure();
	}

	#measure() {
		this.size = { width: this.element.clientWidth || 1, height: this.element.clientHeight || 1 };
		this.density = Math.min(devicePixelRatio, 2);
		if (this.item) this.#moved();
	}

	#at(item, view = this.view) { return region(item, this.size, frame(item, this.size, view), this.density); }

	/** Fetches and decodes what `show` will want. */
	prepare(item) { picture(regionUrl(item, this.#at(item, { ...this.view, ...AT_FIRST }))); }

	show(item) {
		Object.assign(this, { item, painted: 0 });
		Object.assign(this.view, AT_FIRST);
		this.#layers = [];
		$("gone").hidden = true;
		this.element.className = item ? "loading" : "empty";
		if (item) this.#fetch();
	}

	#fetch() {
		const { item } = this, at = this.#at(item), found = picture(regionUrl(item, at));
		const use = () => {
			const { bitmap, gone, again } = found;
			if (item !== this.item) return;
			if (bitmap) this.#layers = [...this.#layers.filter((layer) => !serves(at, layer.at)), { bitmap, at }];
			$("gone").hidden = this.#layers.length;
			$("gone-why").textContent = gone;
			if (again) setTimeout(() => item === this.item && this.#fetch(), 1500);
			this.draw();
			if (!this.painted) afterPaint(() => this.#shown(item));
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
		const at = thumbnail(item);
		picture(regionUrl(item, at)).ready.then(({ bitmap }) => {
			if (item !== this.item || !bitmap) return;
			this.map = { bitmap, item };
			this.#layers.unshift({ bitmap, at });
			this.draw();
		});
	}

	draw() {
		const { item, size, density, view } = this, at = this.frame = frame(item, size, view);
		drawPictures(blank($("picture"), size, density), this.#layers, at);
		$("picture").style.filter = CONTRASTS[view.contrast]?.[0];
		const pen = blank($("mark"), size, density);
		this.editor ? this.editor.draw(pen, at) : drawMark(pen, item, this.number(item), at, view.opacity);
		this.#drawMap();
	}

	/** The whole image, and where in it one is; not where the whole is seen anyway. */
	#drawMap() {
		const { item, map, density } = this, { x0, y0, x1, y1 } = this.#at(item), { width_px, height_px } = item, canvas = $("map");
		canvas.hidden = (x1 - x0 >= width_px && y1 - y0 >= height_px) || map?.item.image_id !== item.image_id || map.item.frame !== item.frame;
		if (canvas.hidden) return;
		const scale = Math.min(132, this.size.width / 4) / Math.max(width_px, height_px), size = { width: width_px * scale, height: height_px * scale };
		const pen = blank(canvas, size, density);
		canvas.style.width = `${size.width}px`;
		canvas.style.height = `${size.height}px`;
		pen.drawImage(map.bitmap, 0, 0, size.width, size.height);
		for (const [width, style] of [[4, "#111"], [2, "#fff"]]) {
			pen.lineWidth = width;
			pen.strokeStyle = style;
			pen.strokeRect(x0 * scale, y0 * scale, Math.max(4, (x1 - x0) * scale), Math.max(4, (y1 - y0) * scale));
		}
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
		if (!factor) Object.assign(view, { zoom: 1, ...AT_FIRST });
		else {
			const near = frame(item, size, { ...AT_FIRST, zoom: 1 }).scale, whole = frame(item, size, { ...AT_FIRST, wide: 2 }).scale;
			const now = Math.min(Math.max(scale * factor, whole), Math.max(64, near));
			Object.assign(view, { zoom: now / near, wide: 0 });
			this.#centre(left + x / scale + (size.width / 2 - x) / now, top + y / scale + (size.height / 2 - y) / now);
		}
		this.#moved();
		return `Zoom ${Math.round(view.zoom * 100)} %`;
	}

	#centre(x, y) {
		this.view.x = x - (this.item.x0 + this.item.x1) / 2;
		this.view.y = y - (this.item.y0 + this.item.y1) / 2;
	}

	/** Moves by CSS px. */
	pan(x, y) {
		const { frame: { scale, left, top }, size } = this;
		this.#centre(left + (size.width / 2 + x) / scale, top + (size.height / 2 + y) / scale);
		this.#moved();
	}

	wider() {
		Object.assign(this.view, { ...AT_FIRST, wide: (this.view.wide + 1) % 3 });
		this.#moved();
		return ["Surroundings as at first", "Wider surroundings", "The whole image"][this.view.wide];
	}

	opacity(step) {
		const now = this.view.opacity = Math.round(Math.min(1, Math.max(0, this.view.opacity + step)) * 10) / 10;
		this.#moved();
		return now ? `Mark ${now * 100} %` : "Mark hidden";
	}

	contrast() {
		this.view.contrast = (this.view.contrast + 1) % CONTRASTS.length;
		this.#moved();
		return CONTRASTS[this.view.contrast][1];
	}

	/** The px of the image under a pointer. */
	under({ clientX, clientY }) {
		const place = this.element.getBoundingClientRect(), { left, top, scale } = this.frame;
		return [left + (clientX - place.left) / scale, top + (clientY - place.top) / scale];
	}
}
