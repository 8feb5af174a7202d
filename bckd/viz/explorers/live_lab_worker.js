// The live lab's worker: draws a scene, unless it is given a picture, and puts its networks to it.
// It is told { networks, detection } once, { scene } for another scene, and { look } for an answer.

let networks = {};
let detection = null;
let paint = null;

function answer({ id, items, blur, picture: given }) {
  const started = performance.now();
  const picture = given ?? paint(items, blur);
  const outputs = {};
  for (const [name, network] of Object.entries(networks)) {
    const output = denseOutput(network(picture, SIDE));
    outputs[name] = { logits: output.logits, boxes: output.boxes, detections: detectionsOf(output, detection) };
  }
  self.postMessage({ id, picture, outputs, milliseconds: performance.now() - started });
}

self.onmessage = ({ data }) => {
  if (data.networks) {
    networks = Object.fromEntries(Object.entries(data.networks).map(([name, packed]) => [name, makeNetwork(packed)]));
    detection = { ...data.detection, side: SIDE };
  }
  if (data.scene) paint = makePainter(data.scene);
  if (data.look) answer(data.look);
};
