/** The stage: a place of an image, a candidate say, with its surroundings. Zoom, contrast and opacity stay for the next one; pan and `wide` do not. */
import { $, afterPaint, keep, kept } from "./dom.js";
import { blank, drawPictures } from "./drawing.js";
import { AT_FIRST, frame, region, regionUrl, serves } from "./frame.js";
import { picture } from "./pictures.js";

const CONTRASTS = ["", "contrast(1.6)", "brightness(1.5) contrast(2)", "brightness(2.2)"];

/** paint(pen, at, opacity) draws marks over the picture; seen(): the item is painted. The view is kept by its name; fits: each is shown as at first. */
export function stageOf(paint, seen, named = "view", fits) {
	const element = $("stage"), map = $("map"), view = { ...AT_FIRST, contrast: 0, opacity: 0.6, ...kept(named) };
	let item = null, layers = [], size, sharpening, mapped;

	const first = () => ({ ...AT_FIRST, zoom: fits ? 1 : view.zoom });
	const visible = (of, how = view) => region(of, size, frame(of, size, how));

	function fetchPicture() {
		const wanted = item, at = visible(item), found = picture(regionUrl(item, at));
		const use = () => {
			if (wanted !== item) return;
			found.bitmap && layers.push({ bitmap: found.bitmap, at });
			$("gone").hidden = layers.length;
			$("gone-why").textContent = found.gone;
			found.again && setTimeout(() => wanted === item && fetchPicture(), 1500);
			draw();
			stage.painted || afterPaint(() => shown(wanted));
		};
		draw();
		found.bitmap ? use() : found.ready.then(use);
	}

	function shown(wanted) {
		if (wanted !== item || stage.painted) return;
		stage.painted = performance.now();
		element.className = "";
		seen();
		const { width_px: x1, height_px: y1 } = item, image = map.firstElementChild;
		image.src = regionUrl(item, { x0: 0, y0: 0, x1, y1, width: Math.min(256, x1) });
		image.decode().then(() => { mapped = wanted.image_id + wanted.frame; item && draw(); }, () => {});
	}

	/** marked: nothing but marks has changed. */
	function draw(marked) {
		const at = stage.frame = frame(item, size, view), { width_px, height_px } = item, { x0, y0, x1, y1 } = visible(item);
		marked || drawPictures(blank($("picture"), size), layers, at);
		$("picture").style.filter = CONTRASTS[view.contrast];
		const pen = blank($("mark"), size);
		paint(pen, at, view.opacity);
		stage.editor?.draw(pen, at);
		// the whole image, and where in it one is
		map.hidden = stage.editor || mapped !== item.image_id + item.frame || (x1 - x0 >= width_px && y1 - y0 >= height_px);
		map.lastElementChild.style.inset = [y0 / height_px, 1 - x1 / width_px, 1 - y1 / height_px, x0 / width_px].map((part) => `${part * 100}%`).join(" ");
	}

	function moved(says) {
		const { zoom, contrast, opacity } = view;
		draw();
		keep(named, { zoom, contrast, opacity });
		clearTimeout(sharpening);
		sharpening = setTimeout(() => item && (layers.some((layer) => serves(layer.at, visible(item))) || fetchPicture()), 120);
		return says;
	}

	const middle = () => [stage.frame.left + size.width / 2 / stage.frame.scale, stage.frame.top + size.height / 2 / stage.frame.scale];
	const centre = (x, y) => Object.assign(view, { x: x - (item.x0 + item.x1) / 2, y: y - (item.y0 + item.y1) / 2 });

	const stage = {
		element, draw,
		get item() { return item; },
		painted: 0, // when the item was first seen, as events tell time; 0 before
		editor: null, // draws on top, and has the pointers

		/** Fetches and decodes what `show` will want. */
		prepare(of) { picture(regionUrl(of, visible(of, first()))); },

		show(of) {
			Object.assign(view, first());
			item = of;
			stage.painted = 0;
			layers = [];
			$("gone").hidden = true;
			element.className = item ? "loading" : "empty";
			item && fetchPicture();
		},

		/** Closer by `factor` around a place in the window, else around the middle; 0: as at first. */
		zoom(factor, clientX, clientY) {
			if (factor) {
				const { scale } = stage.frame, at = middle(), fixed = clientX ? stage.under({ clientX, clientY }) : at;
				const near = frame(item, size, AT_FIRST).scale, whole = frame(item, size, { ...AT_FIRST, wide: 2 }).scale;
				const now = Math.min(Math.max(scale * factor, whole), Math.max(64, near));
				Object.assign(view, { zoom: now / near, wide: 0 });
				centre(...at.map((n, axis) => fixed[axis] + (n - fixed[axis]) * scale / now));
			} else Object.assign(view, AT_FIRST);
			return moved(`Zoom ${Math.round(view.zoom * 100)} %`);
		},

		/** Moves by CSS px. */
		pan(x, y) {
			const [u, v] = middle(), { scale } = stage.frame;
			centre(u + x / scale, v + y / scale);
			moved();
		},

		wider() {
			const wide = (view.wide + 1) % 3;
			Object.assign(view, { wide, x: 0, y: 0 });
			return moved(["As at first", "Wider", "Whole image"][wide]);
		},

		opacity(step) {
			view.opacity = Math.round(Math.min(1, Math.max(0, view.opacity + step)) * 10) / 10;
			return moved(`Mark ${view.opacity * 100} %`);
		},

		contrast() {
			view.contrast = (view.contrast + 1) % CONTRASTS.length;
			return moved(`Contrast ${view.contrast + 1} of ${CONTRASTS.length}`);
		},

		/** The px of the image under a pointer. */
		under({ clientX, clientY }) {
			const place = element.getBoundingClientRect(), { left, top, scale } = stage.frame;
			return [left + (clientX - place.left) / scale, top + (clientY - place.top) / scale];
		},
	};

	const measure = () => {
		size = { width: element.clientWidth || 1, height: element.clientHeight || 1 };
		item && moved();
	};
	new ResizeObserver(measure).observe(element);
	measure();
	return stage;
}
