// A detector in the browser: the steps that network_weights.py packs, on channels-last maps.
// A map is { values: Float64Array, height, width, channels }; JavaScript computes in doubles, and
// arrays of these spare a conversion at each read.

// The weights: integers, row after row, times the factor of their row.
function scaledRows(integers, factors, lengths) {
  const found = new Float64Array(integers.length);
  let at = 0;
  lengths.forEach((length, row) => {
    for (const end = at + length; at < end; at++) found[at] = integers[at] * factors[row];
  });
  return found;
}

const emptyMap = (height, width, channels) =>
  ({ values: new Float64Array(height * width * channels), height, width, channels });

// A detector that takes an image (128 x 128 x 3 bytes, RGB) and gives the maps of each level.
// packed: as `packed_network` says, its arrays typed ones.
function makeNetwork({ steps, levels, weights: integers, factors, lengths, mean, deviation }) {
  const weights = scaledRows(integers, factors, lengths);
  const kernels = new Map(); // by place: a head's are used on each level
  const kernelOf = (step) => {
    if (!kernels.has(step.at)) kernels.set(step.at, blockedKernel(weights, step));
    return kernels.get(step.at);
  };
  const compute = {
    convolution: ([map], step) => convolution(map, kernelOf(step), step),
    average: ([map]) => average(map),
    sum: (maps, { relu }) => sumOf(maps, relu),
    "upsampled sum": ([fine, coarse]) => upsampledSum(fine, coarse),
    "group norm": ([map], step) => groupNorm(map, weights, step),
  };
  return (pixels, side) => {
    const maps = { image: normalised(pixels, side, mean, deviation) };
    for (const step of steps) maps[step.to] = compute[step.kind](step.from.map((name) => maps[name]), step);
    return levels.map(({ stride, classes, boxes, scale }) => ({ stride, classes: maps[classes], boxes: maps[boxes], scale }));
  };
}

function normalised(pixels, side, mean, deviation) {
  const map = emptyMap(side, side, 3);
  for (let n = 0; n < map.values.length; n++) map.values[n] = (pixels[n] / 255 - mean[n % 3]) / deviation[n % 3];
  return map;
}

// ---- convolution: patches of the map times the kernel, four pixels and four outputs at a time ----

const BLOCK = 4;

// The kernel with the outputs of a block side by side, since one pass reads these together.
// Outputs that fill up the last block have weights of 0.
function blockedKernel(weights, { at, inputs, outputs, size }) {
  const length = size * size * inputs;
  const blocks = Math.ceil(outputs / BLOCK);
  const values = new Float64Array(blocks * BLOCK * length);
  for (let output = 0; output < outputs; output++) {
    const start = Math.floor(output / BLOCK) * BLOCK * length + (output % BLOCK);
    for (let k = 0; k < length; k++) values[start + k * BLOCK] = weights[at + output * length + k];
  }
  const biases = new Float64Array(blocks * BLOCK);
  biases.set(weights.subarray(at + outputs * length, at + outputs * (length + 1)));
  return { values, biases, length, blocks };
}

function convolution(map, kernel, { outputs, size, stride, relu }) {
  const found = emptyMap(Math.ceil(map.height / stride), Math.ceil(map.width / stride), outputs);
  const patches = size === 1 ? map.values : patchesOf(map, found, size, stride);
  multiply(patches, kernel, found, relu);
  return found;
}

// Room for the patches of one convolution at a time: megabytes that need not be made anew.
let room = new Float64Array(0);

// The size x size neighbourhood of each output pixel, one after another; 0 beyond the border. They are
// good until the next call.
function patchesOf({ values, height, width, channels }, { height: rows, width: columns }, size, stride) {
  const margin = size >> 1;
  const run = size * channels; // a row of a patch lies together in the map
  const length = rows * columns * size * run;
  if (room.length < length) room = new Float64Array(length);
  const patches = room.subarray(0, length).fill(0);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const left = column * stride - margin;
      const first = Math.max(left, 0);
      const last = Math.min(left + size, width);
      for (let dy = 0; dy < size; dy++) {
        const y = row * stride - margin + dy;
        if (y < 0 || y >= height) continue;
        let to = ((row * columns + column) * size + dy) * run + (first - left) * channels;
        const end = (y * width + last) * channels;
        for (let from = (y * width + first) * channels; from < end; from++) patches[to++] = values[from];
      }
    }
  }
  return patches;
}

// patches (pixels x length) times the kernel, plus biases. Sixteen sums stay in registers. All maps
// of a 128 x 128 image have a multiple of four pixels.
function multiply(patches, { values: kernel, biases, length, blocks }, found, relu) {
  const { values: results, channels } = found;
  const pixels = found.height * found.width;
  for (let block = 0; block < blocks; block++) {
    const start = block * BLOCK * length;
    const output = block * BLOCK;
    const count = Math.min(BLOCK, channels - output);
    for (let pixel = 0; pixel < pixels; pixel += BLOCK) {
      let a = biases[output], b = biases[output + 1], c = biases[output + 2], d = biases[output + 3];
      let e = a, f = b, g = c, h = d, i = a, j = b, k = c, l = d, m = a, n = b, o = c, p = d;
      const second = length, third = 2 * length, fourth = 3 * length;
      let at = start;
      const end = (pixel + 1) * length;
      for (let from = pixel * length; from < end; from++, at += BLOCK) {
        const w = kernel[at], x = kernel[at + 1], y = kernel[at + 2], z = kernel[at + 3];
        let value = patches[from];
        a += value * w; b += value * x; c += value * y; d += value * z;
        value = patches[from + second];
        e += value * w; f += value * x; g += value * y; h += value * z;
        value = patches[from + third];
        i += value * w; j += value * x; k += value * y; l += value * z;
        value = patches[from + fourth];
        m += value * w; n += value * x; o += value * y; p += value * z;
      }
      const to = pixel * channels + output;
      store(results, to, count, relu, a, b, c, d);
      store(results, to + channels, count, relu, e, f, g, h);
      store(results, to + 2 * channels, count, relu, i, j, k, l);
      store(results, to + 3 * channels, count, relu, m, n, o, p);
    }
  }
}

function store(results, to, count, relu, a, b, c, d) {
  results[to] = relu && a < 0 ? 0 : a;
  if (count > 1) results[to + 1] = relu && b < 0 ? 0 : b;
  if (count > 2) results[to + 2] = relu && c < 0 ? 0 : c;
  if (count > 3) results[to + 3] = relu && d < 0 ? 0 : d;
}

// ---- the other steps ------------------------------------------------------------------------------

// Means of 2 x 2 pixels.
function average({ values, height, width, channels }) {
  const found = emptyMap(height / 2, width / 2, channels);
  const below = width * channels;
  let to = 0;
  for (let row = 0; row < found.height; row++) {
    for (let column = 0; column < found.width; column++) {
      const start = (2 * row * width + 2 * column) * channels;
      for (let at = start; at < start + channels; at++) {
        found.values[to++] = (values[at] + values[at + channels] + values[at + below] + values[at + below + channels]) / 4;
      }
    }
  }
  return found;
}

function sumOf([one, other], relu) {
  const found = emptyMap(one.height, one.width, one.channels);
  for (let n = 0; n < found.values.length; n++) {
    const value = one.values[n] + other.values[n];
    found.values[n] = relu && value < 0 ? 0 : value;
  }
  return found;
}

// The coarse map at twice its size, each value four times, plus the fine one.
function upsampledSum(fine, coarse) {
  const found = emptyMap(fine.height, fine.width, fine.channels);
  let at = 0;
  for (let row = 0; row < fine.height; row++) {
    for (let column = 0; column < fine.width; column++) {
      const from = ((row >> 1) * coarse.width + (column >> 1)) * fine.channels;
      for (let channel = 0; channel < fine.channels; channel++, at++) {
        found.values[at] = fine.values[at] + coarse.values[from + channel];
      }
    }
  }
  return found;
}

// Each group of channels brought to mean 0 and variance 1 over the map, then scaled, shifted and
// cut at 0: a ReLU follows each norm of a tower.
function groupNorm({ values, height, width, channels }, weights, { at, groups, epsilon }) {
  const found = emptyMap(height, width, channels);
  const size = channels / groups;
  const count = height * width * size;
  for (let group = 0; group < groups; group++) {
    let total = 0, squares = 0;
    for (let start = group * size; start < values.length; start += channels) {
      for (let n = start; n < start + size; n++) total += values[n];
    }
    const mean = total / count;
    for (let start = group * size; start < values.length; start += channels) {
      for (let n = start; n < start + size; n++) squares += (values[n] - mean) ** 2;
    }
    const deviation = Math.sqrt(squares / count + epsilon);
    for (let start = group * size; start < values.length; start += channels) {
      for (let n = start; n < start + size; n++) {
        const channel = n % channels;
        const value = ((values[n] - mean) / deviation) * weights[at + channel] + weights[at + channels + channel];
        found.values[n] = value < 0 ? 0 : value;
      }
    }
  }
  return found;
}
