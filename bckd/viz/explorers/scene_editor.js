// The picture of a scene with its items to grab: by pointer, or by keys once one has the focus.

const EDIT_KEYS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};
const SMALL_MOVE = 2; // pixels; with Shift four times as far
const KEY_TURN = Math.PI / 12;
const KEY_SCALE = 1.12;

const itemName = ({ label, outline }, classes) =>
  label === null ? { stroke: "clutter line", blob: "clutter spot" }[outline.kind] : classes[label];

// read: the state; edit: changes items, by { items, selected }.
function makeSceneEditor(classes, read, edit) {
  const canvas = make("canvas", { width: PICTURE_SIDE, height: PICTURE_SIDE, "aria-hidden": "true" });
  const grip = make("div", { class: "grip", "aria-hidden": "true", title: "drag to turn and scale" }, "\u2921");
  const frames = make("div", {
    class: "frames", role: "application", "aria-label": "the scene\u2019s shapes, from back to front; arrows move, R turns, plus and minus scale, Delete removes" });
  const stage = make("div", { class: "stage" }, canvas, frames, grip);
  let handles = [];

  const replaceItem = (n, item) => edit({ items: read().items.map((other, m) => (m === n ? item : other)), selected: n });
  const change = {
    move: (n, x, y) => replaceItem(n, moved(read().items[n], x, y)),
    turn: (n, angle) => replaceItem(n, turned(read().items[n], angle)),
    scale: (n, factor) => replaceItem(n, scaled(read().items[n], factor)),
    colour(n) {
      const { base } = read().items[n].paint;
      const now = COLOURS.findIndex(([, colour]) => colour.every((channel, k) => channel === base[k]));
      replaceItem(n, coloured(read().items[n], (now + 1) % COLOURS.length));
    },
    front(n) {
      const { items } = read();
      edit({ items: [...items.filter((_, m) => m !== n), items[n]], selected: items.length - 1 });
    },
    remove(n) {
      const items = read().items.filter((_, m) => m !== n);
      edit({ items, selected: null });
      handles[Math.min(n, items.length - 1)]?.focus();
    },
  };

  function onKey(event, n) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { key } = event;
    if (key in EDIT_KEYS) {
      const far = SMALL_MOVE * (event.shiftKey ? 4 : 1);
      change.move(n, ...EDIT_KEYS[key].map((by) => by * far));
    } else if (key === "r") change.turn(n, KEY_TURN);
    else if (key === "R") change.turn(n, -KEY_TURN);
    else if (key === "+" || key === "=") change.scale(n, KEY_SCALE);
    else if (key === "-") change.scale(n, 1 / KEY_SCALE);
    else if (key === "c") change.colour(n);
    else if (key === "f") change.front(n);
    else if (key === "Delete" || key === "Backspace") change.remove(n);
    else return;
    event.preventDefault();
  }

  // ---- the pointer: an item is moved; its grip turns and scales it ------------------------------

  let drag = null;
  const pointOf = ({ clientX, clientY }) => {
    const { left, top, width } = stage.getBoundingClientRect();
    return [clientX - left, clientY - top].map((at) => (at * PICTURE_SIDE) / width);
  };
  const itemAt = (point) => read().items.findLastIndex((item) => covers(item, point, 2));
  function onDown(event) {
    if (event.button !== 0) return;
    const onGrip = event.target === grip;
    const point = pointOf(event);
    const n = onGrip ? read().selected : itemAt(point);
    if (n < 0) {
      edit({ selected: null });
      return;
    }
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    edit({ selected: n });
    handles[n].focus({ preventScroll: true });
    drag = { n, onGrip, point, begun: read().items[n] };
  }
  function onMove(event) {
    if (!drag) {
      stage.style.cursor = itemAt(pointOf(event)) < 0 ? "" : "move";
      return;
    }
    const { n, onGrip, point, begun } = drag;
    const now = pointOf(event);
    if (!onGrip) {
      replaceItem(n, moved(begun, now[0] - point[0], now[1] - point[1]));
      return;
    }
    const pivot = pivotOf(begun.outline);
    const [from, to] = [point, now].map((at) => [at[0] - pivot[0], at[1] - pivot[1]]);
    const angle = Math.atan2(to[1], to[0]) - Math.atan2(from[1], from[0]);
    replaceItem(n, scaled(turned(begun, angle), Math.hypot(...to) / Math.max(Math.hypot(...from), 1)));
  }
  stage.addEventListener("pointerdown", onDown);
  stage.addEventListener("pointermove", onMove);
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });
  // A finger beside the shapes scrolls the page; one on a shape moves it.
  stage.addEventListener("touchstart", (event) => {
    if (event.target === grip || itemAt(pointOf(event.touches[0])) >= 0) event.preventDefault();
  }, { passive: false });

  // ---- drawing ----------------------------------------------------------------------------------------

  const share = (pixels) => `${(100 * pixels) / PICTURE_SIDE}%`;
  function makeHandle(n) {
    return make("div", {
      class: "handle", role: "button", tabindex: "0", "aria-keyshortcuts": "ArrowUp R Plus Minus C F Delete",
      onkeydown: (event) => onKey(event, n),
      onfocus: () => { if (read().selected !== n) edit({ selected: n }); },
    });
  }
  function placeHandle(handle, item, selected) {
    const [left, top, right, bottom] = boundsOf(item.outline);
    Object.assign(handle.style, { left: share(left), top: share(top), width: share(right - left), height: share(bottom - top) });
    handle.classList.toggle("selected", selected);
    const [x, y] = pivotOf(item.outline).map(Math.round);
    const size = Math.round(longerSide([left, top, right, bottom]));
    handle.setAttribute("aria-pressed", selected);
    handle.setAttribute("aria-label", `${itemName(item, classes)}, ${size} pixels, at ${x} across, ${y} down`);
  }
  return {
    element: stage, change,
    drawPicture(picture) { canvas.getContext("2d").drawImage(picture, 0, 0); },
    draw({ items, selected }) {
      if (handles.length !== items.length) {
        while (handles.length > items.length) handles.pop().remove();
        while (handles.length < items.length) handles.push(makeHandle(handles.length));
        frames.append(...handles.filter((handle) => !handle.isConnected));
      }
      items.forEach((item, n) => placeHandle(handles[n], item, n === selected));
      grip.hidden = selected === null;
      if (selected === null) return;
      const [, , right, bottom] = boundsOf(items[selected].outline);
      grip.style.left = share(clamp(right, 4, PICTURE_SIDE - 3));
      grip.style.top = share(clamp(bottom, 4, PICTURE_SIDE - 3));
    },
  };
}
