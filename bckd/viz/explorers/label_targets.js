// What the labels ask of each location: ATSS (bckd/assigners/atss.py) in JavaScript.

const CANDIDATES_PER_LEVEL = 9;

// objects: [{ box, label }]; levels: [[stride, rows, columns]]; anchorScale: an anchor's side in strides.
// Gives A x labels numbers, 1 where a location is to find an object of the class, else 0.
function labelTargets(objects, levels, anchorScale, labels) {
  const locations = levels.flatMap(([stride, rows, columns], level) =>
    Array.from({ length: rows * columns }, (_, n) => ({
      level, x: (n % columns) * stride, y: Math.floor(n / columns) * stride, half: (anchorScale * stride) / 2 })));
  const best = new Float64Array(locations.length).fill(-1);
  const owner = new Int32Array(locations.length);
  objects.forEach(({ box }, number) => {
    for (const { n, overlap } of positivesOf(box, locations, levels.length)) {
      if (overlap > best[n]) [best[n], owner[n]] = [overlap, number];
    }
  });
  const targets = new Float32Array(locations.length * labels);
  best.forEach((overlap, n) => { if (overlap >= 0) targets[n * labels + objects[owner[n]].label] = 1; });
  return targets;
}

// The nearest locations of each level, of those whose anchor overlaps the box by at least the mean and
// a standard deviation of the candidates' overlaps, and which lie in the box.
function positivesOf(box, locations, levelCount) {
  const [left, top, right, bottom] = box;
  const gap = ({ x, y }) => Math.hypot(x - (left + right) / 2, y - (top + bottom) / 2);
  const candidates = Array.from({ length: levelCount }, (_, level) => locations
    .map((location, n) => ({ location, n, gap: gap(location) }))
    .filter(({ location }) => location.level === level)
    .sort((a, b) => a.gap - b.gap)
    .slice(0, CANDIDATES_PER_LEVEL)).flat()
    .map(({ location: { x, y, half }, n }) => ({
      n, overlap: boxOverlap([x - half, y - half, x + half, y + half], box),
      inside: Math.min(x - left, y - top, right - x, bottom - y) > 0.01 }));
  const mean = sum(candidates.map(({ overlap }) => overlap)) / candidates.length;
  const squares = sum(candidates.map(({ overlap }) => (overlap - mean) ** 2));
  const threshold = mean + Math.sqrt(squares / (candidates.length - 1));
  return candidates.filter(({ overlap, inside }) => inside && overlap >= threshold);
}
