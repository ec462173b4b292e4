// YUV4MPEG2 (y4m): the raw video that ffmpeg writes into a pipe. Planes are I420, 8 bits, as the service takes them.

const HOW = 'let ffmpeg write it by `-pix_fmt yuv420p -color_range tv -f yuv4mpegpipe`';

// Yields {width, height, fps} first, then a Buffer with the packed planes of each frame.
export async function* readY4m(stream) {
  const bytes = new Reader(stream);
  const header = await bytes.line();
  const fields = new Map(header.split(' ').slice(1).map((word) => [word[0], word.slice(1)]));
  const [width, height] = [Number(fields.get('W')), Number(fields.get('H'))];
  const [over, under] = (fields.get('F') ?? '').split(':').map(Number);
  if (!header.startsWith('YUV4MPEG2 ')) throw new Error(`the input is no y4m video; ${HOW}`);
  if (!(width > 0 && height > 0 && over > 0 && under > 0))
    throw new Error(`y4m header "${header}" lacks width W, height H or frame rate F; ${HOW}`);
  if (!/ C420(jpeg|mpeg2|paldv)?( |$)/.test(header) && fields.has('C'))
    throw new Error(`y4m header "${header}": allowed is 8-bit C420; ${HOW}`);
  if (header.includes('XCOLORRANGE=FULL')) throw new Error(`y4m of full range, allowed is limited range; ${HOW}`);
  yield { width, height, fps: over / under };
  const length = width * height + 2 * Math.ceil(width / 2) * Math.ceil(height / 2);
  for (let number = 0; await bytes.holds(1); number++) {
    const line = await bytes.line();
    if (!/^FRAME( |$)/.test(line)) throw new Error(`"${line.slice(0, 20)}" where frame ${number} should begin`);
    if (!(await bytes.holds(length))) throw new Error(`the video breaks off in frame ${number}`);
    yield bytes.take(length);
  }
}

const LONGEST_LINE = 1024;

class Reader {
  #chunks;
  #held = Buffer.alloc(0);

  constructor(stream) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  // Whether so many bytes are still to come.
  async holds(length) {
    const parts = [this.#held];
    let total = this.#held.length;
    while (total < length) {
      const { value, done } = await this.#chunks.next();
      if (done) break;
      parts.push(value);
      total += value.length;
    }
    if (parts.length > 1) this.#held = Buffer.concat(parts);
    return total >= length;
  }

  take(length) {
    const taken = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    return taken;
  }

  async line() {
    for (let length = 64; ; length *= 2) {
      const isWhole = await this.holds(length);
      const end = this.#held.indexOf('\n');
      if (end >= 0) return this.take(end + 1).toString('latin1', 0, end);
      if (!isWhole || length >= LONGEST_LINE) throw new Error(`the input is no y4m video; ${HOW}`);
    }
  }
}
