// Runs a model of this project in the browser: letterbox, network, and the mask back at the frame's place.

import { readInputSizes } from './onnx_metadata.mjs';

// Gray of the padding; the models were trained with it.
const PADDING = 'rgb(127, 127, 127)';

// Where a picture lies on a canvas: centered, at the largest scale that fits. The same as the service's letterbox.
export function fit(picture, canvas) {
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const width = Math.max(1, Math.min(canvas.width, Math.round(picture.width * scale)));
  const height = Math.max(1, Math.min(canvas.height, Math.round(picture.height * scale)));
  return { x: (canvas.width - width) >> 1, y: (canvas.height - height) >> 1, width, height };
}

export class BrowserSegmenter {
  #ort;
  #session;
  #sizes;
  #input = new OffscreenCanvas(1, 1);
  #mask = new OffscreenCanvas(1, 1);

  static async load() {
    const segmenter = new BrowserSegmenter();
    const answer = await fetch('/small.onnx');
    if (!answer.ok) throw new Error(await answer.text());
    const file = await answer.arrayBuffer();
    segmenter.#sizes = readInputSizes(file);
    const library = await fetch('/ort/ort.wasm.min.mjs', { method: 'HEAD' });
    if (!library.ok) throw new Error('onnxruntime-web is not there; run `npm ci --prefix examples/web`');
    segmenter.#ort = await import('/ort/ort.wasm.min.mjs');
    // In a worker, so that the page goes on drawing.
    segmenter.#ort.env.wasm.proxy = true;
    segmenter.#ort.env.wasm.wasmPaths = '/ort/';
    segmenter.#session = await segmenter.#ort.InferenceSession.create(new Uint8Array(file));
    return segmenter;
  }

  get name() {
    return this.#sizes.name;
  }

  // A canvas whose opacity is the mask of the picture (a canvas or bitmap), at the network's own size.
  async segment(picture) {
    const { landscape, upright } = this.#sizes;
    const covered = (canvas) => {
      const place = fit(picture, canvas);
      return (place.width * place.height) / (canvas.width * canvas.height);
    };
    const canvas = covered(landscape) >= covered(upright) ? landscape : upright;
    const place = fit(picture, canvas);
    const frames = new this.#ort.Tensor('uint8', this.#letterbox(picture, canvas, place), [
      1, canvas.height, canvas.width, 3,
    ]);
    const outputs = await this.#session.run({ [this.#session.inputNames[0]]: frames });
    const alpha = outputs[this.#session.outputNames[0]];
    return this.#draw(alpha.data, canvas, place);
  }

  #letterbox(picture, canvas, place) {
    Object.assign(this.#input, { width: canvas.width, height: canvas.height });
    const context = this.#input.getContext('2d', { willReadFrequently: true });
    context.fillStyle = PADDING;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = 'high';
    context.drawImage(picture, place.x, place.y, place.width, place.height);
    const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const rgb = new Uint8Array(canvas.width * canvas.height * 3);
    for (let from = 0, to = 0; to < rgb.length; from += 4) {
      rgb[to++] = rgba[from];
      rgb[to++] = rgba[from + 1];
      rgb[to++] = rgba[from + 2];
    }
    return rgb;
  }

  #draw(alpha, canvas, place) {
    Object.assign(this.#mask, { width: place.width, height: place.height });
    const picture = new ImageData(place.width, place.height);
    for (let y = 0, to = 3; y < place.height; y++) {
      const row = (place.y + y) * canvas.width + place.x;
      // ImageData rounds and keeps to 0..255 by itself.
      for (let x = 0; x < place.width; x++, to += 4) picture.data[to] = alpha[row + x] * 255;
    }
    this.#mask.getContext('2d').putImageData(picture, 0, 0);
    return this.#mask;
  }
}
