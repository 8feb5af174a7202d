// From a network's maps to boxes, scores and detections: heads/gfl.py and postprocess.py in JavaScript.

// All locations, levels from fine to coarse, each row by row:
//   logits: A x K, scores: A x K sigmoids, boxes: A x 4 in pixels, not cut at the image's border.
function denseOutput(levels) {
  const counts = levels.map(({ classes }) => classes.height * classes.width);
  const locations = counts.reduce((total, count) => total + count, 0);
  const labels = levels[0].classes.channels;
  const logits = new Float32Array(locations * labels);
  const boxes = new Float32Array(locations * 4);
  let first = 0;
  levels.forEach((level, n) => {
    logits.set(level.classes.values, first * labels);
    decodeBoxes(level, boxes, first);
    first += counts[n];
  });
  return { logits, scores: logits.map((logit) => 1 / (1 + Math.exp(-logit))), boxes, counts, labels };
}

// A side's distance is the mean of its distribution, in strides.
function decodeBoxes({ stride, scale, boxes: { values, width, height, channels } }, boxes, first) {
  const bins = channels / 4;
  for (let location = 0; location < width * height; location++) {
    const x = (location % width) * stride;
    const y = Math.floor(location / width) * stride;
    const [left, top, right, bottom] = [0, 1, 2, 3].map((side) =>
      stride * meanBin(values, location * channels + side * bins, bins, scale));
    boxes.set([x - left, y - top, x + right, y + bottom], 4 * (first + location));
  }
}

function meanBin(values, start, bins, scale) {
  let highest = -Infinity;
  for (let bin = 0; bin < bins; bin++) highest = Math.max(highest, scale * values[start + bin]);
  let total = 0, weighted = 0;
  for (let bin = 0; bin < bins; bin++) {
    const share = Math.exp(scale * values[start + bin] - highest);
    total += share;
    weighted += share * bin;
  }
  return weighted / total;
}

// Overlap of two boxes over their union.
function boxOverlap(a, b) {
  const area = ([x, y, right, bottom]) => (right - x) * (bottom - y);
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const both = width * height;
  return both > 0 ? both / (area(a) + area(b) - both) : 0;
}

// Best first: { box, score, label } above the threshold, at most `perLevel` of a level, without those
// that overlap a better one of their class by more than `overlap`, cut at the image's border.
function detectionsOf({ scores, boxes, counts, labels }, { threshold, perLevel, overlap, most, side }) {
  const candidates = [];
  let first = 0;
  for (const count of counts) {
    const level = [];
    for (let n = first * labels; n < (first + count) * labels; n++) if (scores[n] > threshold) level.push(n);
    level.sort((a, b) => scores[b] - scores[a]);
    candidates.push(...level.slice(0, perLevel));
    first += count;
  }
  candidates.sort((a, b) => scores[b] - scores[a]);
  const kept = [];
  for (const n of candidates) {
    if (kept.length === most) break;
    const start = 4 * Math.floor(n / labels);
    const box = Array.from(boxes.subarray(start, start + 4), (at) => Math.min(Math.max(at, 0), side));
    const label = n % labels;
    if (!kept.some((other) => other.label === label && boxOverlap(other.box, box) > overlap)) {
      kept.push({ box, score: scores[n], label });
    }
  }
  return kept;
}
