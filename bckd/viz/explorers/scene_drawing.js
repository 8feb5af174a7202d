// A scene's picture from its description: bckd/datasets/scene_painting.py in JavaScript.
// An item is as scene_data.py makes it. The canvas is a Float32Array (3, side, side) in 0 to 1.

const SIDE = 128;
const MARGIN = 3; // pixels around a shape that its soft edge and its halo need
const MIN_HOLE_INRADIUS = 1.9;

const within = (value, low, high) => Math.min(high, Math.max(low, value));

// scene: as `scene_data` packs it, arrays decoded; gives (items, blur) -> (side x side x 3 bytes).
// blur: deviation in pixels of a Gaussian that the lab adds to the generator's own; 0 for none.
function makePainter(scene) {
  const empty = backgroundCanvas(scene.background);
  return (items, blur) => {
    const canvas = empty.slice();
    for (const item of items) paintItem(canvas, shapeOf(item.outline), item, scene);
    return developed(canvas, scene.development, blur);
  };
}

// ---- the background ---------------------------------------------------------------------------

const smooth = (share) => share * share * (3 - 2 * share);

// A grid of cells x cells, interpolated smoothly: reader(x, y) in pixels.
function gridReader(values, cells, start) {
  const scale = (cells - 1) / SIDE;
  const place = (at) => {
    const position = within(at * scale, 0, cells - 1);
    const below = Math.min(Math.floor(position), cells - 2);
    return [below, smooth(position - below)];
  };
  return (x, y) => {
    const [column, across] = place(x);
    const [row, down] = place(y);
    const at = start + row * cells + column;
    const upper = values[at] + across * (values[at + 1] - values[at]);
    const lower = values[at + cells] + across * (values[at + cells + 1] - values[at + cells]);
    return upper + down * (lower - upper);
  };
}

function backgroundCanvas({ colour, octaves }) {
  const canvas = new Float32Array(3 * SIDE * SIDE);
  for (let channel = 0; channel < 3; channel++) {
    const readers = octaves.map(({ strength, grid: { values, shape: [, cells] } }) => {
      const read = gridReader(values, cells, channel * cells * cells);
      return (x, y) => (strength / 32767) * read(x, y);
    });
    for (let n = 0; n < SIDE * SIDE; n++) {
      const x = (n % SIDE) + 0.5;
      const y = Math.floor(n / SIDE) + 0.5;
      const value = readers.reduce((total, read) => total + read(x, y), colour[channel]);
      canvas[channel * SIDE * SIDE + n] = within(value, 0.02, 0.98);
    }
  }
  return canvas;
}

// ---- shapes: signed distances in pixels of a window, negative inside --------------------------------

function windowAround(points, margin) {
  const [left, right, top, bottom] = [0, 1].flatMap((axis) => {
    const along = points.map((point) => point[axis]);
    const low = within(Math.floor(Math.min(...along) - margin), 0, SIDE - 2);
    return [low, within(Math.ceil(Math.max(...along) + margin), low + 2, SIDE)];
  });
  return { left, top, width: right - left, height: bottom - top };
}

function shapeOf(outline) {
  if (outline.kind === "polygon") return polygonShape(outline);
  return outline.kind === "stroke" ? strokeShape(outline) : blobShape(outline);
}

// Distance from each pixel of the window to the nearest of the segments [[x, y], [x, y]].
function segmentDistance(segments, { left, top, width, height }) {
  const squares = new Float64Array(width * height).fill(Infinity);
  for (const [[x0, y0], [x1, y1]] of segments) {
    const edgeX = x1 - x0, edgeY = y1 - y0;
    const length = Math.max(edgeX * edgeX + edgeY * edgeY, 1e-6);
    let at = 0;
    for (let row = 0; row < height; row++) {
      const toY = top + row + 0.5 - y0;
      for (let column = 0; column < width; column++, at++) {
        const toX = left + column + 0.5 - x0;
        let along = (toX * edgeX + toY * edgeY) / length;
        along = along < 0 ? 0 : along > 1 ? 1 : along;
        const offX = toX - along * edgeX, offY = toY - along * edgeY;
        const square = offX * offX + offY * offY;
        if (square < squares[at]) squares[at] = square;
      }
    }
  }
  return squares.map(Math.sqrt);
}

function polygonShape({ points, hole }) {
  const window = windowAround(points, MARGIN);
  const edges = points.map((point, n) => [point, points[(n + 1) % points.length]]);
  const distance = segmentDistance(edges, window);
  for (let row = 0; row < window.height; row++) {
    const y = window.top + row + 0.5;
    const crossings = edges.filter(([[, y0], [, y1]]) => (y0 <= y) !== (y1 <= y))
      .map(([[x0, y0], [x1, y1]]) => x0 + ((y - y0) * (x1 - x0)) / (y1 - y0));
    for (let column = 0; column < window.width; column++) {
      const x = window.left + column + 0.5;
      const inside = crossings.filter((crossing) => crossing > x).length % 2 === 1;
      if (inside) distance[row * window.width + column] *= -1;
    }
  }
  if (hole === null) return { window, distance };
  const inradius = -distance.reduce((least, value) => Math.min(least, value), Infinity);
  const reach = inradius - Math.max(hole * inradius, MIN_HOLE_INRADIUS);
  return { window, distance: distance.map((value) => Math.max(value, -value - reach)) };
}

function strokeShape({ points, half_width: halfWidth }) {
  const window = windowAround(points, halfWidth + MARGIN);
  const segments = points.slice(1).map((point, n) => [points[n], point]);
  return { window, distance: segmentDistance(segments, window).map((value) => value - halfWidth) };
}

function blobShape({ centre, radius, lobes }) {
  const window = windowAround([centre], 1.6 * radius + MARGIN);
  const distance = new Float64Array(window.width * window.height);
  for (let n = 0; n < distance.length; n++) {
    const x = window.left + (n % window.width) + 0.5 - centre[0];
    const y = window.top + Math.floor(n / window.width) + 0.5 - centre[1];
    const angle = Math.atan2(y, x);
    const reach = lobes.reduce((total, [number, strength, phase]) => total + strength * Math.cos(number * angle + phase), 1);
    distance[n] = 0.8 * (Math.hypot(x, y) - radius * reach); // 0.8: the rim is slanted
  }
  return { window, distance };
}

// ---- paint -----------------------------------------------------------------------------------------

// Share of the second colour, 0 to 1, by pixel: reader(x, y).
function textureReader({ kind, turn, phase, rate, values, corner, frame }, { left, top, width, height }, arrays) {
  const [a, b, c, d, e, f] = frame;
  const framed = (read) => (x, y) => read(a * x + b * y + c, d * x + e * y + f);
  if (kind === "solid") return () => 0;
  if (kind === "speckle") {
    const { values: dots, shape: [rows, columns] } = arrays[values];
    const wrapped = (at, count) => ((Math.floor(at) % count) + count) % count;
    return framed((x, y) => 0.8 * dots[wrapped(y - corner[1], rows) * columns + wrapped(x - corner[0], columns)]);
  }
  if (kind === "clouds") {
    const { values: grid, shape: [cells] } = arrays[values];
    const read = gridReader(grid, cells, 0);
    return framed((x, y) => read(x, y) / 65535);
  }
  const cosine = Math.cos(turn), sine = Math.sin(turn);
  const along = framed((x, y) => x * cosine + y * sine);
  if (kind === "gradient") {
    const ends = [left + 0.5, left + width - 0.5].flatMap((x) => [along(x, top + 0.5), along(x, top + height - 0.5)]);
    const least = Math.min(...ends), reach = Math.max(...ends) - least;
    return (x, y) => (along(x, y) - least) / reach;
  }
  if (kind === "stripes") return (x, y) => within(0.5 + 1.5 * Math.sin(rate * along(x, y) + phase), 0, 1);
  const aside = framed((x, y) => y * cosine - x * sine);
  return (x, y) => within(0.5 + 2 * Math.sin(rate * along(x, y) + phase) * Math.sin(rate * aside(x, y) + phase), 0, 1);
}

// Halo, two colours, bevel and soft edge of a shape.
function paintItem(canvas, { window, distance }, { paint, texture }, { light, textures }) {
  const { left, top, width, height } = window;
  const secondColour = textureReader(texture, window, textures);
  const downwards = Math.sin(light), rightwards = Math.cos(light);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      const here = distance[at];
      const halo = 1 - paint.halo * Math.exp(-Math.max(here, 0) / paint.halo_width);
      const alpha = paint.opacity * within(0.5 - here / paint.edge, 0, 1);
      const pixel = (top + row) * SIDE + left + column;
      if (alpha === 0) { // most of a stroke's window
        for (let n = pixel; n < 3 * SIDE * SIDE; n += SIDE * SIDE) canvas[n] *= halo;
        continue;
      }
      let facing = 0; // where the surface rises towards the light it is brighter
      if (row > 0) facing += downwards * (here - distance[at - width]);
      if (column > 0) facing += rightwards * (here - distance[at - 1]);
      const light = 1 + paint.bevel * facing * Math.exp(Math.min(here, 0) / paint.bevel_depth);
      const share = secondColour(left + column + 0.5, top + row + 0.5);
      for (let channel = 0; channel < 3; channel++) {
        const n = channel * SIDE * SIDE + pixel;
        const colour = (paint.base[channel] + share * paint.shift[channel]) * light;
        const behind = canvas[n] * halo;
        canvas[n] = behind + alpha * (colour - behind);
      }
    }
  }
}

// ---- from the canvas to a picture -----------------------------------------------------------------------

// Weighted means with neighbours, along rows and then along columns; weights by distance, from 0.
// At the border those inside have all the weight.
function blurred(canvas, weights) {
  const along = (from, to, step, other) => {
    for (let line = 0; line < 3 * SIDE; line++) {
      const start = Math.floor(line / SIDE) * SIDE * SIDE + (line % SIDE) * other;
      for (let n = 0; n < SIDE; n++) {
        let total = 0, weight = 0;
        for (let m = Math.max(0, n - weights.length + 1); m < Math.min(SIDE, n + weights.length); m++) {
          const own = weights[Math.abs(n - m)];
          total += own * from[start + m * step];
          weight += own;
        }
        to[start + n * step] = total / weight;
      }
    }
  };
  const half = new Float32Array(canvas.length);
  const found = new Float32Array(canvas.length);
  along(canvas, half, 1, SIDE);
  along(half, found, SIDE, 1);
  return found;
}

const gaussian = (deviation) =>
  Array.from({ length: Math.ceil(3 * deviation) + 1 }, (_, n) => Math.exp(-0.5 * (n / deviation) ** 2));

function developed(canvas, { across, down, blur: ownBlur, grain, grain_strength: strength }, blur) {
  const pixels = SIDE * SIDE;
  const lit = canvas.map((value, n) => {
    const x = ((n % SIDE) + 0.5) / (SIDE / 2) - 1;
    const y = (Math.floor((n % pixels) / SIDE) + 0.5) / (SIDE / 2) - 1;
    return value * (1 + across * x + down * y);
  });
  const soft = blurred(blur > 0 ? blurred(lit, gaussian(blur)) : lit, [1, ownBlur]);
  const picture = new Uint8ClampedArray(3 * pixels);
  for (let n = 0; n < 3 * pixels; n++) {
    const value = soft[n] + strength * (grain.values[n] / 255 - 0.5);
    picture[(n % pixels) * 3 + Math.floor(n / pixels)] = Math.floor(within(value, 0, 1) * 255 + 0.5);
  }
  return picture;
}
