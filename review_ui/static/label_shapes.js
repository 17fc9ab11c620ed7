/**
 * Shapes on an image, in its px. A mark is {class_name, outline, x0, y0, x1, y1} and what makes it: a `polygon`, a `mask_rle`,
 * or neither for a box; {class_name, whole} says that the image shows the class.
 */
import { decode } from "./rle.js";

const { min, max, floor, ceil, round, hypot } = Math;
const CORNERS = 24; // of a disc

const inside = ({ width_px, height_px }, [x, y]) => [min(max(x, 0), width_px), min(max(y, 0), height_px)];
const tenths = (corner) => corner.map((value) => round(value * 10) / 10);

/** The smallest box of whole px around corners. */
function around(corners) {
	const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y), x0 = floor(min(...xs)), y0 = floor(min(...ys));
	return { x0, y0, x1: max(x0 + 1, ceil(max(...xs))), y1: max(y0 + 1, ceil(max(...ys))) };
}

export const isInside = ({ width_px, height_px }, [x, y]) => x >= 0 && y >= 0 && x <= width_px && y <= height_px;

/** A polygon; null where it covers less than a px. */
export function polygonal(item, corners) {
	const polygon = corners.map((corner) => tenths(inside(item, corner)));
	const twice = polygon.reduce((sum, [x, y], n) => {
		const [u, v] = polygon[(n + 1) % polygon.length];
		return sum + x * v - u * y;
	}, 0);
	return Math.abs(twice) < 2 ? null : { polygon, outline: [polygon], ...around(polygon) };
}

export const disc = (item, [x, y], diameter) => polygonal(item, Array.from({ length: CORNERS }, (_, n) => {
	const turn = 2 * Math.PI * n / CORNERS;
	return [x + diameter / 2 * Math.cos(turn), y + diameter / 2 * Math.sin(turn)];
}));

/** The box between two corners; null where it has no px. */
export function boxed(item, one, other) {
	const [[x, y], [u, v]] = [inside(item, one).map(round), inside(item, other).map(round)];
	return x === u || y === v ? null : { outline: [], x0: min(x, u), y0: min(y, v), x1: max(x, u), y1: max(y, v) };
}

/** A mask and the rings along the edges of its px, holes too: to be filled even-odd. */
export function masked({ x0, y0, x1, y1 }, mask_rle) {
	const w = x1 - x0, h = y1 - y0, flags = decode(mask_rle, w * h), ways = new Map(), outline = [];
	const on = (u, v) => u >= 0 && v >= 0 && u < w && v < h && flags[u * h + v];
	const lead = (u, v, to, down) => {
		const from = u * (h + 1) + v;
		ways.set(from, [...ways.get(from) || [], to * (h + 1) + down]);
	};
	for (let u = 0; u < w; u++) {
		for (let v = 0; v < h; v++) {
			if (!flags[u * h + v]) continue;
			on(u, v - 1) || lead(u, v, u + 1, v);
			on(u + 1, v) || lead(u + 1, v, u + 1, v + 1);
			on(u, v + 1) || lead(u + 1, v + 1, u, v + 1);
			on(u - 1, v) || lead(u, v + 1, u, v);
		}
	}
	for (const [start] of ways) {
		const ring = [];
		for (let at = start; ways.has(at);) {
			const [next, ...more] = ways.get(at);
			more.length ? ways.set(at, more) : ways.delete(at);
			ring.push([x0 + floor(at / (h + 1)), y0 + at % (h + 1)]);
			at = next;
		}
		outline.push(ring.filter(([x, y], n) => { // only where it turns
			const [u, v] = ring.at(n - 1), [s, t] = ring[(n + 1) % ring.length];
			return (x - u) * (t - y) !== (y - v) * (s - x);
		}));
	}
	return { mask_rle, outline, x0, y0, x1, y1 };
}

/** The same elsewhere, by whole px and within the image. */
export function moved({ width_px, height_px }, mark, x, y) {
	const right = round(min(max(x, -mark.x0), width_px - mark.x1)), down = round(min(max(y, -mark.y0), height_px - mark.y1));
	const shift = (ring) => ring.map(([u, v]) => tenths([u + right, v + down])), { x0, y0, x1, y1, polygon, outline } = mark;
	return { ...mark, x0: x0 + right, y0: y0 + down, x1: x1 + right, y1: y1 + down, outline: outline.map(shift), ...(polygon && { polygon: shift(polygon) }) };
}

/** A polygon that is larger by a factor, around its middle. */
export function grown(item, mark, factor) {
	const x = (mark.x0 + mark.x1) / 2, y = (mark.y0 + mark.y1) / 2;
	const larger = polygonal(item, mark.polygon.map(([u, v]) => [x + (u - x) * factor, y + (v - y) * factor]));
	return larger && hypot(larger.x1 - larger.x0, larger.y1 - larger.y0) > 3 ? { ...mark, ...larger } : mark;
}

/** An object as the server tells of it, or as it was sent there. */
export function received({ class_name, box, polygon, mask_rle, note, candidate_id, outline }) {
	if (!box && !polygon) return { class_name, whole: true, note };
	const rings = outline?.length ? outline : polygon ? [polygon] : mask_rle ? masked(box, mask_rle).outline : [];
	return { class_name, note, candidate_id, outline: rings,
		...(box || around(polygon)), ...(polygon && { polygon }), ...(mask_rle && { mask_rle }) };
}

/** A mark as the server takes it. */
export function sent({ class_name, whole, polygon, mask_rle, x0, y0, x1, y1, note, candidate_id }) {
	const said = { class_name, ...(note && { note }), ...(candidate_id && { candidate_id }) };
	return whole ? said : polygon ? { ...said, polygon } : { ...said, box: { x0, y0, x1, y1 }, ...(mask_rle && { mask_rle }) };
}
