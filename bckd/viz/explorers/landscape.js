// A loss over two logits as a landscape: shaded ground, contour lines, points to drag.

const CELLS = 64; // of the ground, a side
const CONTOURS = [0.1, 0.5, 1, 2, 4, 8];
const LABEL_GAP = 15; // pixels between two of their labels, at least
const HIGHEST = 13; // from this loss on the colour stays
const RELIEF = 0.16; // how much darker the slopes in the shade are
const STRONGEST = 0.8; // of the role's colour in the ground

// reach: the axes run from -reach to reach. lossOf(point) over the grid, row by row from below.
function makeGround(reach, lossOf) {
  const at = (n) => -reach + (2 * reach * n) / CELLS;
  const side = CELLS + 1;
  const losses = Float64Array.from({ length: side * side }, (_, n) => lossOf([at(n % side), at(Math.floor(n / side))]));
  return { at, side, losses };
}

// Colours of the ground as a picture of side x side pixels, its first row on top. Light falls from
// the upper left; heights are square roots, so that the floor shows its shape.
function groundPicture({ side, losses }, paper, role) {
  const heights = losses.map((loss) => Math.sqrt(Math.max(0, loss))); // rounding goes below 0
  const height = (x, y) => heights[clamp(y, 0, side - 1) * side + clamp(x, 0, side - 1)];
  const picture = make("canvas", { width: side, height: side });
  const pixels = new ImageData(side, side);
  for (let row = 0; row < side; row++) {
    for (let x = 0; x < side; x++) {
      const y = side - 1 - row;
      const tint = STRONGEST * Math.min(1, height(x, y) / Math.sqrt(HIGHEST));
      const rise = height(x + 1, y) - height(x - 1, y) - height(x, y + 1) + height(x, y - 1);
      const light = 1 - (RELIEF * (1 - Math.tanh(3 * rise))) / 2;
      const colour = paper.map((channel, n) => (channel + tint * (role[n] - channel)) * light);
      pixels.data.set([...colour, 255], 4 * (row * side + x));
    }
  }
  picture.getContext("2d").putImageData(pixels, 0, 0);
  return picture;
}

// Pieces of the line on which the loss has this value: each cell is two triangles, and on a
// triangle the loss counts as flat. Returns [[point, point], ...].
function contour({ at, side, losses }, value) {
  const corner = (x, y) => ({ point: [at(x), at(y)], loss: losses[y * side + x] });
  const crossing = (a, b) => {
    if ((a.loss < value) === (b.loss < value)) return [];
    const part = (value - a.loss) / (b.loss - a.loss);
    return [a.point.map((from, n) => from + part * (b.point[n] - from))];
  };
  const pieces = [];
  for (let y = 0; y < side - 1; y++) {
    for (let x = 0; x < side - 1; x++) {
      const [a, b, c, d] = [corner(x, y), corner(x + 1, y), corner(x, y + 1), corner(x + 1, y + 1)];
      for (const [p, q, r] of [[a, b, c], [b, c, d]]) {
        const piece = [...crossing(p, q), ...crossing(q, r), ...crossing(r, p)];
        if (piece.length === 2) pieces.push(piece);
      }
    }
  }
  return pieces;
}

// Where the contour lines have their numbers: along the diagonal from the teacher that climbs
// highest, one point a value that the loss reaches there.
function labelPlaces(teacher, reach, lossOf) {
  const edge = reach - 0.6; // a number needs room
  const ways = [[-1, 1], [1, -1], [1, 1], [-1, -1]].map((sides) => {
    const length = Math.max(0, Math.min(...sides.map((side, n) => edge - side * teacher[n])));
    return { length, at: (part) => teacher.map((logit, n) => logit + part * sides[n]) };
  });
  const climb = ({ at, length }) => lossOf(at(length));
  const way = ways.reduce((best, other) => (climb(other) > climb(best) ? other : best));
  const places = [];
  for (let part = 0; part < way.length; part += 0.05) {
    const value = CONTOURS[places.length];
    if (value === undefined) break;
    if (lossOf(way.at(part)) >= value) places.push({ value, point: way.at(part) });
  }
  return places;
}

// [red, green, blue] of any colour that CSS knows.
function channelsOf(colour) {
  const context = make("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

// A point that moves in two dimensions: pointer and keys. `start()` is where a move begins,
// `move(point)` puts it there. Page keys move both logits together, along the diagonal.
const MOVES = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1], PageUp: [10, 10], PageDown: [-10, -10],
};
function makePoint(role, label, unitsPerPixel, { start, move }) {
  let drag = null;
  const end = () => { drag = null; };
  return make("div", {
    class: `point ${role}`, role: "slider", tabindex: "0", "aria-label": label, "aria-roledescription": "point",
    onkeydown(event) {
      if (!(event.key in MOVES) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const size = event.shiftKey ? 1 : 0.1;
      move(start().map((logit, n) => logit + size * MOVES[event.key][n]));
    },
    onpointerdown(event) {
      if (event.button !== 0) return;
      event.preventDefault();
      event.currentTarget.focus({ preventScroll: true });
      event.currentTarget.setPointerCapture(event.pointerId);
      drag = { x: event.clientX, y: event.clientY, begun: start() };
    },
    onpointermove(event) {
      if (!drag) return;
      const units = unitsPerPixel();
      move([drag.begun[0] + (event.clientX - drag.x) * units, drag.begun[1] - (event.clientY - drag.y) * units]);
    },
    onpointerup: end, onpointercancel: end,
    onclick: (event) => event.stopPropagation(), // the ground's click puts the student elsewhere
  });
}

// One landscape. `loss`: { kind, title, formula, lossOf(teacher, student), gradientOf(teacher, student) };
// `read()` gives the state, `move(role, point)` changes it.
function makeLandscape(loss, names, reach, read, move) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const unitsPerPixel = () => (2 * reach) / plot.clientWidth;
  const points = Object.fromEntries(["teacher", "student"].map((role) => [role,
    makePoint(role, `${role}\u2019s logits, in the picture of ${loss.name}`, unitsPerPixel,
      { start: () => read()[role], move: (point) => move(role, point) })]));
  const tickPlaces = ticks(-reach, reach, 4);
  const plot = make("div", {
    class: "plot",
    onclick(event) {
      const { left, bottom } = plot.getBoundingClientRect();
      move("student", [(event.clientX - left) * unitsPerPixel() - reach, (bottom - event.clientY) * unitsPerPixel() - reach]);
    },
  }, canvas, points.teacher, points.student);
  const place = (tick) => `${50 + (50 * tick) / reach}%`;
  const element = make("div", { class: `panel landscape ${loss.kind}` },
    make("h4", {}, loss.title), make("p", { class: "quiet small formula" }, loss.formula),
    make("div", { class: "axes" }, plot,
      make("div", { class: "scale x small", "aria-hidden": "true" }, ...tickPlaces.map((tick) =>
        make("span", { style: `left: ${place(tick)}` }, tickText(tick)))),
      make("div", { class: "scale y small", "aria-hidden": "true" }, ...tickPlaces.map((tick) =>
        make("span", { style: `bottom: ${place(tick)}` }, tickText(tick)))),
      make("div", { class: "name x small" }, `logit of ${names[0]}`),
      make("div", { class: "name y small" }, `logit of ${names[1]}`)));

  let ground = { key: "" };
  // Everything that stays while only the student moves, kept as a picture.
  function groundOf(root, teacher, size) {
    const paper = cssColour(root, "--bckd-paper");
    const ink = cssColour(root, "--bckd-ink");
    const role = cssColour(root, `--bckd-${loss.kind}`);
    const key = JSON.stringify([teacher, size, window.devicePixelRatio, paper, ink]);
    if (ground.key === key) return ground.canvas;
    const lossOf = (student) => loss.lossOf(teacher, student);
    const found = makeGround(reach, lossOf);
    const surface = make("canvas");
    const context = sharpContext(surface, size, size);
    const scale = size / (2 * reach);
    const toX = (logit) => (logit + reach) * scale;
    const toY = (logit) => size - (logit + reach) * scale;
    const cell = size / CELLS;
    context.imageSmoothingEnabled = true;
    context.drawImage(groundPicture(found, channelsOf(paper), channelsOf(role)), -cell / 2, -cell / 2, size + cell, size + cell);
    context.strokeStyle = ink;
    context.globalAlpha = 0.55;
    context.lineWidth = 0.8;
    context.beginPath();
    for (const value of CONTOURS) {
      for (const [[ax, ay], [bx, by]] of contour(found, value)) {
        context.moveTo(toX(ax), toY(ay));
        context.lineTo(toX(bx), toY(by));
      }
    }
    context.stroke();
    context.globalAlpha = 1;
    if (loss.floor) {
      context.setLineDash([6, 5]);
      context.lineWidth = 1.5;
      context.strokeStyle = ink;
      const shift = teacher[1] - teacher[0];
      line(context, [[toX(-2 * reach), toY(-2 * reach + shift)], [toX(2 * reach), toY(2 * reach + shift)]]);
      context.setLineDash([]);
    }
    context.font = `10px ${getComputedStyle(root).fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    let last = toY(teacher[1]);
    for (const { value, point: [x, y] } of labelPlaces(teacher, reach, lossOf)) {
      if (Math.abs(toY(y) - last) < LABEL_GAP) continue;
      last = toY(y);
      haloText(context, String(value), toX(x), last, ink, paper);
    }
    ground = { key, canvas: surface };
    return surface;
  }

  return {
    element,
    // copies: [{ path, colour, shape, own }, ...]; `own`: this landscape is the one it descends.
    draw(root, state, weight, copies, describe) {
      const { teacher, student } = state;
      plot.classList.toggle("split", copies.length > 0);
      for (const [role, point] of Object.entries(points)) {
        point.style.left = place(state[role][0]);
        point.style.bottom = place(state[role][1]);
        point.setAttribute("aria-valuemin", -reach);
        point.setAttribute("aria-valuemax", reach);
        point.setAttribute("aria-valuenow", state[role][0]);
        point.setAttribute("aria-valuetext", describe(role));
      }
      const size = plot.clientWidth;
      if (size <= 0) return;
      const context = sharpContext(canvas, size, size);
      context.drawImage(groundOf(root, teacher, size), 0, 0, size, size);
      const scale = size / (2 * reach);
      const toPixels = ([x, y]) => [(x + reach) * scale, size - (y + reach) * scale];
      const paper = cssColour(root, "--bckd-paper");
      for (const { path, colour, shape, own } of copies) {
        drawPath(context, path.map(toPixels), cssColour(root, colour), paper, shape, own);
      }
      if (!copies.length) {
        const tip = loss.gradientOf(teacher, student).map((slope, n) => student[n] - 3 * weight * slope);
        drawArrow(context, toPixels(student), toPixels(tip), cssColour(root, "--bckd-ink"));
      }
    },
  };
}

function haloText(context, text, x, y, ink, paper) {
  context.strokeStyle = paper;
  context.lineWidth = 3;
  context.strokeText(text, x, y);
  context.fillStyle = ink;
  context.fillText(text, x, y);
}

// A way that was gone, and a mark where the copy stands now.
function drawPath(context, pixels, colour, paper, shape, own) {
  context.lineJoin = context.lineCap = "round";
  for (const [stroke, width] of [[paper, own ? 6 : 4], [colour, own ? 3.5 : 2]]) {
    context.strokeStyle = stroke;
    context.lineWidth = width;
    if (!own && stroke === colour) context.setLineDash([5, 4]);
    line(context, pixels);
    context.setLineDash([]);
  }
  const [x, y] = pixels[pixels.length - 1];
  const half = own ? 7 : 5;
  context.beginPath();
  if (shape === "square") context.rect(x - half, y - half, 2 * half, 2 * half);
  else {
    context.moveTo(x, y - 1.2 * half);
    context.lineTo(x + 1.1 * half, y + 0.8 * half);
    context.lineTo(x - 1.1 * half, y + 0.8 * half);
    context.closePath();
  }
  context.fillStyle = colour;
  context.fill();
  context.strokeStyle = paper;
  context.lineWidth = 1.5;
  context.stroke();
}

function drawArrow(context, [x, y], [tipX, tipY], colour) {
  const length = Math.hypot(tipX - x, tipY - y);
  if (length < 3) return;
  const [alongX, alongY] = [(tipX - x) / length, (tipY - y) / length];
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2.5;
  line(context, [[x, y], [tipX, tipY]]);
  context.beginPath();
  context.moveTo(tipX + 8 * alongX, tipY + 8 * alongY);
  context.lineTo(tipX - 5 * alongY, tipY + 5 * alongX);
  context.lineTo(tipX + 5 * alongY, tipY - 5 * alongX);
  context.fill();
}
