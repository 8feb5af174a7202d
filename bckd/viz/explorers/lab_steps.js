// The live lab's guided steps: each is a scene to look at, and one sentence on what to see.
// make(data): a patch of the state; the scenes' names and items are in data.

const givenScene = ({ scenes }, n) => ({ scene: scenes[n].name, items: scenes[n].items, blur: 0, selected: null });
// The background of a given scene with other items.
const sceneWith = (data, n, items) => ({ ...givenScene(data, n), items });
const labelOf = ({ classes }, name) => classes.indexOf(name);
const shapeOn = (data, name, place) => {
  const label = labelOf(data, name);
  return newObject(label, data.units[label], place);
};

const LAB_STEPS = {
  ordinary: {
    text: "an ordinary scene",
    reading: "All four were trained on scenes like this one; drag a shape and the maps follow.",
    make: (data) => ({ ...givenScene(data, 2), reading: "sigmoid", class_name: null }),
  },
  alike: {
    text: "two look-alikes",
    reading: "A circle and a circle ring, alike but for the hole.",
    make: (data) => ({
      ...sceneWith(data, 0, [
        shapeOn(data, "circle", { x: 38, y: 64, side: 38, turn: 0, colour: 2 }),
        shapeOn(data, "circle ring", { x: 90, y: 64, side: 38, turn: 0, colour: 2 })]),
      reading: "sigmoid", class_name: "circle",
    }),
  },
  empty: {
    text: "nothing there",
    reading: "No shape at all.",
    make: (data) => ({ ...sceneWith(data, 3, []), reading: "softmax", class_name: null }),
  },
  small: {
    text: "small and blurred",
    reading: "A small shape out of focus.",
    make: (data) => ({
      ...sceneWith(data, 4, [
        shapeOn(data, "square", { x: 36, y: 40, side: 14, turn: 0.3, colour: 0 }),
        shapeOn(data, "triangle", { x: 92, y: 84, side: 40, turn: 0.5, colour: 4 })]),
      blur: 1.5, reading: "sigmoid", class_name: null,
    }),
  },
  clutter: {
    text: "clutter",
    reading: "Lines and spots that are no objects.",
    make: (data) => ({
      ...sceneWith(data, 3, [...data.scenes[3].items, ...Array.from({ length: 8 }, (_, n) => newClutter(n))]),
      reading: "sigmoid", class_name: null,
    }),
  },
};
