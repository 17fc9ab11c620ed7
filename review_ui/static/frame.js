/** Where a candidate stands: geometry. Boxes are px of the image, sizes CSS px. */
const { min, max, floor, ceil } = Math;
const SHARE = 0.36; // of the stage that a candidate takes at most
const LEAST_PX = 128; // of the image that are seen at least
const LARGEST_PX = 1600; // across a picture that is asked for
export const DENSITY = min(devicePixelRatio, 2);
export const AT_FIRST = { zoom: 1, wide: 0, x: 0, y: 0 };

/** {scale: CSS px per px; left, top: the px in the upper left corner}; wide: 0 to 2. */
export function frame({ x0, y0, x1, y1, width_px, height_px }, { width, height }, { zoom, wide, x, y }) {
	const whole = min(width / width_px, height / height_px);
	const near = max(whole, min(width * SHARE / (x1 - x0), height * SHARE / (y1 - y0), min(width, height) / LEAST_PX));
	const scale = [near * zoom, max(near / 3, whole), whole][wide];
	const from = (middle, length, shown) => (length <= shown ? length / 2 : min(max(middle, 0), length)) - shown / 2;
	return { scale, left: from((x0 + x1) / 2 + x, width_px, width / scale), top: from((y0 + y1) / 2 + y, height_px, height / scale) };
}

/** What is seen of the image, in whole px, and how wide to ask for it. */
export function region({ width_px, height_px }, size, { scale, left, top }) {
	const x0 = max(0, floor(left)), x1 = min(width_px, ceil(left + size.width / scale));
	const y0 = max(0, floor(top)), y1 = min(height_px, ceil(top + size.height / scale));
	return { x0, y0, x1, y1, width: max(1, min(x1 - x0, ceil((x1 - x0) * scale * DENSITY), LARGEST_PX)) };
}

export const regionUrl = ({ image_id, frame }, at) =>
	`/v1/images/${encodeURIComponent(image_id)}/region.jpg?${new URLSearchParams({ ...at, frame })}`;

/** Whether a picture of region `had` serves where `wanted` is asked for. */
export const serves = (had, wanted) => had.x0 <= wanted.x0 && had.y0 <= wanted.y0 && had.x1 >= wanted.x1 && had.y1 >= wanted.y1
	&& had.width / (had.x1 - had.x0) >= 0.9 * wanted.width / (wanted.x1 - wanted.x0);
