// What the live lab counts and measures, on arrays of A locations x K classes.

// Logits as scores: each class on its own by sigmoid, or shares of a location by softmax (T = 1).
function readLogits(logits, reading, labels) {
  if (reading === "sigmoid") return logits.map(sigmoid);
  const shares = new Float32Array(logits.length);
  for (let first = 0; first < logits.length; first += labels) {
    shares.set(softmax(logits.subarray(first, first + labels)), first);
  }
  return shares;
}

// One number a cell of the finest level: the highest, of all levels, of the location whose cell it is in.
// label: a class, or null for the highest of all.
function mapOf(scores, labels, label, levels) {
  const [stride, rows, columns] = levels[0];
  const cells = new Float32Array(rows * columns);
  let first = 0;
  for (const [own, ownRows, ownColumns] of levels) {
    const share = own / stride;
    for (let cell = 0; cell < cells.length; cell++) {
      const row = Math.floor(Math.floor(cell / columns) / share);
      const location = first + row * ownColumns + Math.floor((cell % columns) / share);
      for (let k = label ?? 0; k <= (label ?? labels - 1); k++) {
        cells[cell] = Math.max(cells[cell], scores[location * labels + k]);
      }
    }
    first += ownRows * ownColumns;
  }
  return cells;
}

// Mean absolute difference over all locations and classes.
function meanGap(scores, others) {
  let total = 0;
  for (let n = 0; n < scores.length; n++) total += Math.abs(scores[n] - others[n]);
  return total / scores.length;
}

const FOUND_OVERLAP = 0.5; // a detection that overlaps an object of its class so far has found it

// The detections over the threshold, best first, each with the number of the object that it finds
// (null: a false alarm). An object is found once.
function judged(detections, objects, threshold) {
  const free = new Set(objects.keys());
  return detections.filter(({ score }) => score >= threshold).map((detection) => {
    const overlaps = [...free].filter((n) => objects[n].label === detection.label)
      .map((n) => ({ n, overlap: boxOverlap(objects[n].box, detection.box) }))
      .filter(({ overlap }) => overlap >= FOUND_OVERLAP).sort((a, b) => b.overlap - a.overlap);
    const finds = overlaps.length ? overlaps[0].n : null;
    free.delete(finds);
    return { ...detection, finds };
  });
}

// What `state.shown` says of one look at a scene. outputs: of each detector { logits, detections }.
function labFindings(outputs, objects, { reading, threshold }, labels) {
  const scores = Object.fromEntries(Object.entries(outputs).map(([name, { logits }]) =>
    [name, readLogits(logits, reading, labels)]));
  const findings = Object.entries(outputs).map(([name, { detections }]) => {
    const found = judged(detections, objects, threshold).filter(({ finds }) => finds !== null).length;
    const over = detections.filter(({ score }) => score >= threshold).length;
    const counts = { found, false_alarms: over - found };
    const gap = Number(meanGap(scores[name], scores.teacher).toFixed(6));
    return [name, name === "teacher" ? counts : { ...counts, gap }];
  });
  return { objects: objects.length, ...Object.fromEntries(findings) };
}
