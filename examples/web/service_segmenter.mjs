// Masks by the service: JPEG frames over a WebSocket to the gateway (examples/live.py says how), masks back.

// Two on their way keep the service busy; more only grow old.
const MAX_UNANSWERED = 2;

export class ServiceSegmenter {
  #socket;
  #waiting = new Map();
  #lastId = 0;
  #onError;

  static open(onError) {
    const segmenter = new ServiceSegmenter();
    segmenter.#onError = onError;
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/masks`);
    socket.binaryType = 'arraybuffer';
    segmenter.#socket = socket;
    socket.onmessage = ({ data }) => (typeof data === 'string' ? segmenter.#hear(JSON.parse(data)) : segmenter.#take(data));
    socket.onclose = () => segmenter.#end('the gateway has closed the connection');
    return new Promise((resolve, reject) => {
      socket.onopen = () => resolve(segmenter);
      socket.onerror = () => reject(new Error('the gateway does not answer'));
    });
  }

  get hasRoom() {
    return this.#waiting.size < MAX_UNANSWERED && this.#socket.readyState === WebSocket.OPEN;
  }

  close() {
    this.#onError = () => {};
    this.#socket.close();
  }

  // A canvas whose opacity is the picture's mask; null where the service dropped the frame.
  async segment(picture, timeMs) {
    const id = ++this.#lastId;
    const answered = new Promise((resolve) => this.#waiting.set(id, resolve));
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext('2d').drawImage(picture, 0, 0);
    const jpeg = await (await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.85 })).arrayBuffer();
    const message = new Uint8Array(16 + jpeg.byteLength);
    const header = new DataView(message.buffer);
    header.setUint32(0, id, true);
    header.setUint16(4, picture.width, true);
    header.setUint16(6, picture.height, true);
    header.setFloat64(8, timeMs, true);
    message.set(new Uint8Array(jpeg), 16);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(message);
    return answered;
  }

  #take(data) {
    const header = new DataView(data);
    const [width, height] = [header.getUint16(4, true), header.getUint16(6, true)];
    const mask = new Uint8Array(data, 8);
    const picture = new ImageData(width, height);
    for (let from = 0, to = 3; from < mask.length; from++, to += 4) picture.data[to] = mask[from];
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext('2d').putImageData(picture, 0, 0);
    this.#settle(header.getUint32(0, true), canvas);
  }

  #hear({ dropped, error }) {
    if (error !== undefined) this.#end(error);
    else this.#settle(dropped, null);
  }

  #settle(id, mask) {
    this.#waiting.get(id)(mask);
    this.#waiting.delete(id);
  }

  #end(text) {
    for (const id of [...this.#waiting.keys()]) this.#settle(id, null);
    this.#onError(new Error(text));
    this.#onError = () => {};
  }
}
