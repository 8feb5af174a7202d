// The live lab's buttons, menus and sliders: what changes the scene, and what changes the view of it.

const INVITATION = "Drag a shape: the maps follow, computed here by the very networks of the course. Or choose a step.";

// read: the state; change: takes a patch of it; editor: of the scene. Gives elements to place, and draw(state).
function makeLabControls(data, read, change, editor) {
  const { classes, scenes } = data;
  const asGiven = (name) => givenScene(data, scenes.findIndex((scene) => scene.name === name));
  const guide = makeGuide(LAB_STEPS, {
    label: "guided steps", invitation: INVITATION,
    onStep: (key) => change({ ...LAB_STEPS[key].make(data), preset: key }),
  });
  const scene = makeSelect({
    label: "scene", options: scenes.map(({ name }) => [name, name]),
    onChange: (name) => change({ ...asGiven(name), preset: "" }),
  });
  const blur = makeSlider({
    label: "blur", min: 0, max: 3, step: 0.25, format: (value) => `${fixed(value, 2)} px`,
    onChange: (value) => change({ blur: value }),
  });
  const { views, drawViews } = makeViewControls(classes, change);
  const { additions, addClutter } = makeAdditions(data, read, change);
  const { tools, drawTools } = makeItemTools(read, editor);

  const words = make("p", {},
    "Read the maps by ", makeWord("sigmoid", () => change({ reading: "sigmoid" })), " or by ",
    makeWord("softmax", () => change({ reading: "softmax" })), "; ",
    makeWord("take all shapes away", () => change({ items: read().items.filter((item) => !isObject(item)), selected: null })), ", ",
    makeWord("add clutter", addClutter), ", ",
    makeWord("blur the picture", () => change({ blur: 1.5 })), " or ",
    makeWord("start this scene again", () => change(asGiven(read().scene))), ".");
  return {
    guide, words, tools, views,
    additions: make("div", { class: "row" }, ...additions, blur.element),
    scene: make("div", { class: "row" }, scene.element),
    draw(state) {
      guide.set(state.preset);
      scene.set(state.scene);
      blur.set(state.blur);
      drawViews(state);
      drawTools(state);
    },
  };
}

// How the maps are read.
function makeViewControls(classes, change) {
  const reading = makeRadios({
    label: "reading", options: [["sigmoid", "sigmoid"], ["softmax", "softmax"]],
    onChange: (value) => change({ reading: value }),
  });
  const classOf = makeSelect({
    label: "map of", options: [[null, "the highest class"], ...classes.map((name) => [name, name])],
    onChange: (value) => change({ class_name: value }),
  });
  const threshold = makeSlider({
    label: "detections over", min: 0.05, max: 0.95, step: 0.05, format: (value) => fixed(value, 2),
    onChange: (value) => change({ threshold: value }),
  });
  return {
    views: make("div", { class: "row views" }, reading.element, classOf.element, threshold.element),
    drawViews(state) {
      reading.set(state.reading);
      classOf.set(state.class_name);
      threshold.set(state.threshold);
    },
  };
}

// New items, in front of the others.
function makeAdditions({ classes, units }, read, change) {
  const add = (item) => change({ items: [...read().items, item], selected: read().items.length });
  const addClutter = () => add(newClutter(read().items.length));
  const addObject = (label) => {
    const count = read().items.length;
    const roll = makeDice(count + 1);
    const place = { x: 30 + 68 * roll(), y: 30 + 68 * roll(), side: 34, turn: roll(), colour: count % COLOURS.length };
    add(newObject(label, units[label], place));
  };
  const menu = makeSelect({
    label: "add", options: [[null, "a shape \u2026"], ...classes.map((name, label) => [label, name])],
    onChange(label) {
      if (label !== null) addObject(label);
      menu.set(null);
    },
  });
  menu.set(null);
  return { additions: [menu.element, makeButton("add clutter", addClutter)], addClutter };
}

// What the keys do to the selected item, as buttons.
function makeItemTools(read, { change }) {
  const buttons = [
    ["\u21ba", "turn left", (n) => change.turn(n, -KEY_TURN)],
    ["\u21bb", "turn right", (n) => change.turn(n, KEY_TURN)],
    ["\u2212", "smaller", (n) => change.scale(n, 1 / KEY_SCALE)],
    ["+", "larger", (n) => change.scale(n, KEY_SCALE)],
    ["colour", "next colour", change.colour],
    ["front", "to the front", change.front],
    ["delete", "delete", change.remove],
  ].map(([text, label, act]) => makeButton(text, () => act(read().selected), {
    "aria-label": `${label}: selected shape`, title: label }));
  return {
    tools: make("div", { class: "row tools", role: "group", "aria-label": "selected shape" }, ...buttons),
    drawTools({ selected }) {
      for (const button of buttons) button.disabled = selected === null;
    },
  };
}
