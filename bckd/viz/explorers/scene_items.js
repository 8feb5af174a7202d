// The items of a scene as a reader changes them: each function gives a new item, never changes one.

const PICTURE_SIDE = 128;
const LARGEST = 112; // pixels of an item's longer side
const SMALLEST = 8;
const SMALLEST_RING = 16; // so that its hole is seen
const COLOURS = [
  ["red", [0.85, 0.2, 0.18]], ["orange", [0.93, 0.55, 0.15]], ["yellow", [0.93, 0.85, 0.25]],
  ["green", [0.25, 0.65, 0.3]], ["cyan", [0.3, 0.78, 0.82]], ["blue", [0.2, 0.35, 0.8]],
  ["violet", [0.55, 0.3, 0.75]], ["pink", [0.92, 0.5, 0.72]], ["white", [0.93, 0.93, 0.9]], ["black", [0.1, 0.1, 0.12]],
];

// Left, top, right and bottom of what an outline may cover.
function boundsOf(outline) {
  const { kind, points, half_width: halfWidth = 0, centre, radius } = outline;
  const ends = kind === "blob" ? [[centre[0], centre[1]]] : points;
  const margin = kind === "blob" ? 1.3 * radius : halfWidth;
  const [xs, ys] = [0, 1].map((axis) => ends.map((point) => point[axis]));
  return [Math.min(...xs) - margin, Math.min(...ys) - margin, Math.max(...xs) + margin, Math.max(...ys) + margin];
}

// The point that an item turns about: it stays where it is, however the item is turned.
function pivotOf({ kind, points, centre }) {
  if (kind === "blob") return centre;
  return [0, 1].map((axis) => sum(points.map((point) => point[axis])) / points.length);
}
const longerSide = ([left, top, right, bottom]) => Math.max(right - left, bottom - top);

// What an annotation would say: the box of the full outline, cut at the picture's border.
const objectOf = ({ outline, label }) => ({
  label, box: boundsOf(outline).map((side) => clamp(Math.round(side * 100) / 100, 0, PICTURE_SIDE)),
});
const isObject = ({ label }) => label !== null;

// Moved by x and y pixels; its pivot stays in the picture.
function moved(item, x, y) {
  const [across, down] = pivotOf(item.outline);
  const by = [clamp(across + x, 0, PICTURE_SIDE) - across, clamp(down + y, 0, PICTURE_SIDE) - down];
  return mapped(item, { turn: 0, scale: 1, by });
}

// Turned clockwise by an angle in radians about its pivot.
const turned = (item, angle) => mapped(item, { turn: angle, scale: 1, by: [0, 0] });

// Scaled about its pivot, between the least and the largest size.
function scaled(item, factor) {
  const side = longerSide(boundsOf(item.outline));
  const least = Math.min(side, item.outline.hole == null ? SMALLEST : SMALLEST_RING);
  const scale = clamp(side * factor, least, Math.max(side, LARGEST)) / side;
  return mapped(item, { turn: 0, scale, by: [0, 0] });
}

function mapped(item, { turn, scale, by }) {
  const [x, y] = pivotOf(item.outline);
  const cosine = scale * Math.cos(turn), sine = scale * Math.sin(turn);
  const place = ([px, py]) => [
    x + by[0] + cosine * (px - x) - sine * (py - y), y + by[1] + sine * (px - x) + cosine * (py - y)];
  return { ...item, outline: mappedOutline(item.outline, place, turn, scale), texture: {
    ...item.texture, frame: mappedFrame(item.texture.frame, place, turn, scale) } };
}

function mappedOutline(outline, place, turn, scale) {
  if (outline.kind === "polygon") return { ...outline, points: outline.points.map(place) };
  if (outline.kind === "stroke") {
    return { ...outline, points: outline.points.map(place), half_width: scale * outline.half_width };
  }
  const lobes = outline.lobes.map(([number, strength, phase]) => [number, strength, phase - number * turn]);
  return { ...outline, centre: place(outline.centre), radius: scale * outline.radius, lobes };
}

// From a pixel back to where it was, then into the texture.
function mappedFrame([a, b, c, d, e, f], place, turn, scale) {
  const cosine = Math.cos(turn) / scale, sine = Math.sin(turn) / scale;
  const [x, y] = place([0, 0]); // where the origin went
  const back = [cosine, sine, -cosine * x - sine * y, -sine, cosine, sine * x - cosine * y];
  return [
    a * back[0] + b * back[3], a * back[1] + b * back[4], a * back[2] + b * back[5] + c,
    d * back[0] + e * back[3], d * back[1] + e * back[4], d * back[2] + e * back[5] + f];
}

// In the colour of that number; what was its second colour keeps its distance.
function coloured(item, number) {
  return { ...item, paint: { ...item.paint, base: COLOURS[number][1] } };
}

const PLAIN_PAINT = { shift: [0, 0, 0], bevel: 0.15, bevel_depth: 2, halo: 0.2, halo_width: 1.2, opacity: 0.95, edge: 1.3 };
const SOLID = { kind: "solid", turn: 0, phase: 0, rate: 0, values: null, corner: [0, 0], frame: [1, 0, 0, 0, 1, 0] };

// A new shape of a class; unit: { points, hole } as Python sends it, about 1 wide.
function newObject(label, unit, { x, y, side, turn, colour }) {
  const outline = { kind: "polygon", points: unit.points, hole: unit.hole };
  const item = { label, outline, paint: { ...PLAIN_PAINT, base: COLOURS[colour][1] }, texture: SOLID };
  return mapped(item, { turn, scale: side / longerSide(boundsOf(outline)), by: [x, y] });
}

// Numbers in 0 to 1 that look random and are the same each time (Lehmer's generator).
function makeDice(seed) {
  let state = 1 + (seed * 7919) % 2147483646;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}

// A line or a spot that is no object: clutter number n.
function newClutter(n) {
  const roll = makeDice(n + 1);
  for (let k = 0; k < 8; k++) roll(); // the first ones of near seeds are alike
  const between = (low, high) => low + (high - low) * roll();
  const anywhere = () => between(0, PICTURE_SIDE);
  const paint = { ...PLAIN_PAINT, base: COLOURS[Math.floor(roll() * COLOURS.length)][1] };
  if (n % 2 === 1) {
    const lobes = [[1, 0.1], [2, 0.25], [3, 0.2], [5, 0.08]].map(([number, strength]) =>
      [number, strength, between(0, 2 * Math.PI)]);
    return { label: null, outline: { kind: "blob", centre: [anywhere(), anywhere()], radius: between(6, 16), lobes }, paint, texture: SOLID };
  }
  const middle = [anywhere(), anywhere()];
  const [start, bend, end] = [0, 1, 2].map(() => middle.map((at) => at + between(-45, 45)));
  const points = Array.from({ length: 9 }, (_, k) => k / 8).map((t) => [0, 1].map((axis) =>
    (1 - t) ** 2 * start[axis] + 2 * t * (1 - t) * bend[axis] + t ** 2 * end[axis]));
  return { label: null, outline: { kind: "stroke", points, half_width: between(0.8, 4) }, paint, texture: SOLID };
}

// Whether a point of the picture is on the item, with a margin of that many pixels.
function covers({ outline }, [x, y], margin) {
  if (outline.kind === "blob") {
    return Math.hypot(x - outline.centre[0], y - outline.centre[1]) < outline.radius + margin;
  }
  const { points } = outline;
  const closed = outline.kind === "polygon";
  const edges = points.map((point, n) => [point, points[(n + 1) % points.length]]).slice(0, closed ? undefined : -1);
  const reach = margin + (outline.half_width ?? 0);
  if (edges.some((edge) => edgeDistance([x, y], edge) < reach)) return true;
  const crossed = edges.filter(([[x0, y0], [x1, y1]]) =>
    (y0 <= y) !== (y1 <= y) && x0 + ((y - y0) * (x1 - x0)) / (y1 - y0) > x);
  return closed && crossed.length % 2 === 1;
}

function edgeDistance([x, y], [[x0, y0], [x1, y1]]) {
  const length = Math.max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-6);
  const along = clamp(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1);
  return Math.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0));
}
