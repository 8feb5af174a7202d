// Live lab: a teacher and its students at work on a scene that the reader makes.

const ROLE_TEXTS = {
  teacher: { name: "teacher", what: "the large network" },
  none: { name: "labels alone", what: "student, no teacher" },
  softmax: { name: "softmax KD", what: "student" },
  BCKD: { name: "BCKD", what: "student" },
};
const STUDENTS = ["none", "softmax", "BCKD"];
const ROLES = ["teacher", ...STUDENTS];
const KEYS = "Keys, once a shape has the focus (Tab): arrows move it (Shift: further), R and Shift R turn, + and \u2212 "
  + "scale, C colours, F brings to the front, Delete removes.";
const BOXES = "Boxes: detections over the threshold; dashed: a false alarm (no object of that class is there, or it "
  + "is found already).";
const MAP_OPACITY = 0.62;
const TILE_SIDE = 256; // canvas pixels of a map, shown at any size

// ---- one map: the picture, a map over it, boxes on top -------------------------------------------

function makeTile(key, title, note) {
  const canvas = make("canvas", { width: TILE_SIDE, height: TILE_SIDE, role: "img" });
  const caption = make("div", { class: "caption small" });
  return {
    element: make("figure", { class: `tile role-${key}`, "data-tile": key },
      make("figcaption", {}, make("span", { class: "key" }), make("strong", {}, title), make("span", { class: "note quiet small" }, note)),
      canvas, caption),
    // cells: values of the finest level's map; boxes: [{ box, dashed }].
    draw(root, picture, cells, [, rows, columns], boxes, text) {
      const context = canvas.getContext("2d");
      context.globalAlpha = 1;
      context.imageSmoothingEnabled = false;
      context.drawImage(picture, 0, 0, TILE_SIDE, TILE_SIDE);
      context.globalAlpha = MAP_OPACITY;
      context.drawImage(mapPicture(cells, rows, columns, colourScale("viridis")), 0, 0, TILE_SIDE, TILE_SIDE);
      context.globalAlpha = 1;
      const zoom = TILE_SIDE / PICTURE_SIDE;
      for (const [colour, width] of [["#000", 5], ["#fff", 2.5]]) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        for (const { box: [x, y, right, bottom], dashed } of boxes) {
          context.setLineDash(dashed ? [6, 6] : []);
          context.strokeRect(x * zoom, y * zoom, (right - x) * zoom, (bottom - y) * zoom);
        }
      }
      caption.textContent = text;
      canvas.setAttribute("aria-label", `${title}: score map. ${text}`);
    },
  };
}

// ---- the line that stays in view -------------------------------------------------------------------

function makeScoreboard() {
  const cells = Object.fromEntries(ROLES.map((role) => {
    const found = make("output", { class: "found" });
    const gap = make("output", { class: "gap" });
    const element = make("div", { class: `score role-${role}`, "data-role": role },
      make("div", { class: "name" }, make("span", { class: "key" }), ROLE_TEXTS[role].name), found, gap);
    return [role, { element, found, gap }];
  }));
  const legend = make("div", { class: "quiet small legend" });
  return {
    element: make("div", { class: "sticky" }, make("div", { class: "scores" }, ...ROLES.map((role) => cells[role].element)), legend),
    draw(shown, reading) {
      for (const role of ROLES) {
        const { found, gap } = cells[role];
        found.textContent = shown ? `${shown[role].found} of ${shown.objects}` : "\u2026";
        gap.textContent = role === "teacher" ? "" : shown ? `gap ${fixed(shown[role].gap, 4)}` : "";
      }
      legend.textContent = `Objects found; gap: mean difference to the teacher\u2019s ${reading} scores, all places and classes.`;
    },
  };
}

// What a screen reader is told once a scene is judged.
const spoken = (shown) => ROLES.map((role) =>
  `${ROLE_TEXTS[role].name}: ${shown[role].found} of ${shown.objects} found`
  + `${shown[role].false_alarms ? `, ${shown[role].false_alarms} false` : ""}`
  + `${role === "teacher" ? "" : `, gap ${fixed(shown[role].gap, 4)}`}`).join("; ");

// ---- the explorer -------------------------------------------------------------------------------------

function pictureCanvas(bytes) {
  const canvas = make("canvas", { width: PICTURE_SIDE, height: PICTURE_SIDE });
  const pixels = new ImageData(PICTURE_SIDE, PICTURE_SIDE);
  for (let from = 0, to = 0; from < bytes.length; to++) {
    for (let channel = 0; channel < 3; channel++) pixels.data[to++] = bytes[from++];
    pixels.data[to] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

// The last result of `compute`, kept until `key` is another.
function keptFor(compute) {
  let last = { key: null };
  return (key, ...given) => {
    const text = JSON.stringify(key);
    if (last.key !== text) last = { key: text, result: compute(...given) };
    return last.result;
  };
}

// Packed arrays anywhere inside, decoded.
function decoded(value) {
  if (Array.isArray(value)) return value.map(decoded);
  if (value === null || typeof value !== "object") return value;
  if (value.dtype) return decode(value);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decoded(item)]));
}

function render({ model, el }) {
  const data = decoded(model.get("data"));
  const { classes, levels } = data;
  const networks = Object.fromEntries(Object.entries(data.networks).map(([name, { weights, factors, lengths, ...network }]) =>
    [name, { ...network, weights: weights.values, factors: factors.values, lengths: lengths.values }]));
  const change = stateChanger(model);
  const read = () => model.get("state");
  const editor = makeSceneEditor(classes, read, change);
  const controls = makeLabControls(data, read, change, editor);
  const board = makeScoreboard();
  const tiles = {
    teacher: makeTile("teacher", "teacher", ROLE_TEXTS.teacher.what),
    labels: makeTile("labels", "labels", "what is asked for"),
    ...Object.fromEntries(STUDENTS.map((role) => [role, makeTile(role, ROLE_TEXTS[role].name, ROLE_TEXTS[role].what)])),
  };
  const bar = makeColourBar();
  const speed = make("p", { class: "quiet small speed" });
  const fault = make("p", { class: "fault", role: "alert", hidden: true });
  const live = make("p", { class: "visually-hidden", "aria-live": "polite" });

  const { guide, words, tools, views, additions, scene } = controls;
  const root = makeRoot(el, "bckd-live-lab", "Live lab",
    make("h3", {}, "Live lab: the real networks, on a scene of yours"),
    guide.buttons, guide.reading, words, fault, board.element,
    make("div", { class: "layout" },
      make("div", { class: "edit" }, editor.element, tools),
      make("div", { class: "maps" }, views,
        make("div", { class: "tiles" }, tiles.teacher.element, tiles.labels.element,
          make("div", { class: "how small" }, bar.element, make("p", {}, BOXES), speed),
          ...STUDENTS.map((role) => tiles[role].element))),
      make("div", { class: "more" }, additions, scene, make("p", { class: "quiet small" }, KEYS))),
    live);

  // ---- computing and drawing ----------------------------------------------------------------------

  let sent = { scene: null, key: null, id: 0 };
  let latest = null; // look of the students
  let whole = null; // look that the teacher has answered too
  let painted = null; // its picture
  function onLook(look) {
    if (look.teacher === null) {
      latest = look;
      painted = pictureCanvas(look.picture);
      editor.drawPicture(painted);
    } else whole = look;
    draw();
  }
  function onFault(message) {
    fault.hidden = false;
    fault.textContent = `The networks can\u2019t run here, because the page may not start a worker (${message}).`;
  }
  let lookers = null;
  try {
    lookers = makeLookers({ networks, detection: data.detection }, onLook, onFault);
  } catch (error) { // some frames around a page forbid workers
    onFault(error.message);
  }

  function request({ scene: name, items, blur: deviation }) {
    if (lookers === null) return;
    if (name !== sent.scene) lookers.setScene(data.scenes.find((each) => each.name === name));
    const key = JSON.stringify([name, items, deviation]);
    if (key === sent.key) return;
    const objects = items.filter(isObject).map(objectOf);
    sent = { scene: name, key, id: lookers.look({ items, blur: deviation, objects }) };
  }

  function drawTiles(state) {
    const { objects } = latest.request;
    const label = state.class_name === null ? null : classes.indexOf(state.class_name);
    const show = (role, scores, boxes, text) =>
      tiles[role].draw(root, painted, mapOf(scores, classes.length, label, levels), levels[0], boxes, text);
    show("labels", labelTargets(objects, levels, networks.teacher.anchor_scale, classes.length),
      objects.map(({ box }) => ({ box, dashed: false })), `${objects.length} objects`);
    const outputs = { ...latest.students, ...(whole ? { teacher: whole.teacher } : {}) };
    for (const [role, { logits, detections }] of Object.entries(outputs)) {
      const of = role === "teacher" ? whole.request.objects : objects;
      const found = judged(detections, of, state.threshold);
      const alarms = found.filter(({ finds }) => finds === null).length;
      const text = `${found.length - alarms} of ${of.length} found, ${alarms} false`;
      show(role, readLogits(logits, state.reading, classes.length), found.map(({ box, finds }) => ({ box, dashed: finds === null })), text);
    }
  }

  let said = 0;
  function speak(shown) {
    clearTimeout(said);
    said = setTimeout(() => { live.textContent = spoken(shown); }, 700);
  }

  // What was found and what was drawn stay as they are until these change.
  const findings = keptFor((state) => whole && labFindings(
    { teacher: whole.teacher, ...whole.students }, whole.request.objects, state, classes.length));
  const tilesOf = keptFor(drawTiles);

  function draw() {
    const state = read();
    const shown = findings([whole?.id, state.reading, state.threshold], state);
    if (whole && JSON.stringify(shown) !== JSON.stringify(state.shown)) {
      change({ shown });
      speak(shown);
      return; // the change draws
    }
    request(state);
    root.setAttribute("aria-busy", whole === null || whole.id < sent.id);
    controls.draw(state);
    editor.draw(state);
    board.draw(shown, state.reading);
    bar.set("viridis", state.reading === "sigmoid" ? "score (sigmoid)" : "share (softmax)", 1);
    if (latest) tilesOf([latest.id, whole?.id, state.reading, state.class_name, state.threshold], state);
    if (whole) {
      speed.textContent = `Computed in this page: scene and three students in ${Math.round(whole.studentTime)} ms, `
        + `the teacher in ${Math.round(whole.teacherTime)} ms.`;
    }
  }

  model.on("change:state", draw);
  draw();
  return () => {
    model.off("change:state", draw);
    lookers?.stop();
  };
}
