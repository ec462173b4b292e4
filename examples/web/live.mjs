// The page: one source of frames, two that cut people out of them, each at its own pace.

import { BrowserSegmenter } from './browser_segmenter.mjs';
import { ServiceSegmenter } from './service_segmenter.mjs';

// What is larger is drawn smaller: it is a preview.
const LONGEST_SIDE = 640;

const video = document.getElementById('video');

// One half of the page. `figures` is for the tests too.
class Panel {
  figures = { frames: 0, dropped: 0, error: null };
  #canvas;
  #output;
  #since = null;

  constructor(id) {
    this.#canvas = document.querySelector(`#${id} canvas`);
    this.#output = document.querySelector(`#${id} output`);
  }

  // The picture with the mask as its opacity.
  show(picture, mask, tookMs) {
    Object.assign(this.#canvas, { width: picture.width, height: picture.height });
    const context = this.#canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(mask, 0, 0, picture.width, picture.height);
    context.globalCompositeOperation = 'source-in';
    context.drawImage(picture, 0, 0);
    this.figures.frames += 1;
    this.#since ??= performance.now();
    const fps = ((this.figures.frames - 1) * 1000) / (performance.now() - this.#since);
    this.#output.textContent = `${tookMs.toFixed(0)} ms, ${fps > 0 ? fps.toFixed(0) : '-'} a second`;
    this.#output.className = '';
  }

  say(text) {
    this.#output.textContent = text;
  }

  fail(error) {
    this.figures.error = error.message;
    this.#output.textContent = error.message;
    this.#output.className = 'bad';
  }
}

const panels = { service: new Panel('service'), browser: new Panel('browser') };
globalThis.figures = { service: panels.service.figures, browser: panels.browser.figures };

const local = BrowserSegmenter.load();
local.then(
  (segmenter) => panels.browser.say(`${segmenter.name} is loaded`),
  (error) => panels.browser.fail(error),
);
let remote = null;
let isLocalBusy = false;

async function start(open) {
  const state = document.getElementById('state');
  try {
    state.textContent = 'opening';
    await open();
    await video.play();
    remote?.close();
    remote = null;
    remote = await ServiceSegmenter.open((error) => panels.service.fail(error));
    state.textContent = `${video.videoWidth}x${video.videoHeight}`;
  } catch (error) {
    state.textContent = `cannot start: ${error.message}`;
  }
}

document.getElementById('camera').onclick = () => start(async () => {
  video.removeAttribute('src');
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360, frameRate: 30 } });
});
document.getElementById('clip').onclick = () => start(async () => {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  video.src = '/clip';
});

function onFrame(timeMs) {
  video.requestVideoFrameCallback(onFrame);
  if (remote?.hasRoom) cutOut(panels.service, remote, timeMs).catch((error) => panels.service.fail(error));
  if (!isLocalBusy) {
    isLocalBusy = true;
    local
      .then((segmenter) => cutOut(panels.browser, segmenter, timeMs))
      .then(() => { isLocalBusy = false; }, (error) => panels.browser.fail(error));
  }
}
video.requestVideoFrameCallback(onFrame);

async function cutOut(panel, segmenter, timeMs) {
  const started = performance.now();
  const picture = grab();
  const mask = await segmenter.segment(picture, timeMs);
  if (mask === null) panel.figures.dropped += 1;
  else panel.show(picture, mask, performance.now() - started);
}

// A copy: the mask belongs to this frame, and the video goes on.
function grab() {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = new OffscreenCanvas(Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
  canvas.getContext('2d').drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas;
}
