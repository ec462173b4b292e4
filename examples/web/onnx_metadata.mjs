// What a model says about itself, read from the ONNX file: onnxruntime-web does not hand it out.
//
// An ONNX file is one protobuf message; field 14 of it, once a pair, is {1: key, 2: value}.

const METADATA_FIELD = 14;
const PREFIX = 'humanseg.';

// {landscape, upright}: sizes of the input as {width, height}.
export function readInputSizes(file) {
  const found = new Map();
  for (const [field, value] of fields(new Uint8Array(file))) {
    if (field !== METADATA_FIELD) continue;
    const pair = new Map([...fields(value)].map(([key, text]) => [key, new TextDecoder().decode(text)]));
    found.set(pair.get(1), pair.get(2));
  }
  const format = found.get(`${PREFIX}format`);
  if (format !== '1') throw new Error(`the model's ${PREFIX}format is ${format}, this page reads 1`);
  if (found.get(`${PREFIX}channels`) !== '3') throw new Error('the model wants more than RGB; this page has no more');
  const [landscape, upright] = ['landscape', 'upright'].map((name) => {
    const size = /^(\d+)x(\d+)$/.exec(found.get(PREFIX + name) ?? '');
    if (!size) throw new Error(`the model's ${PREFIX}${name} is no size; export it by train.export`);
    return { width: Number(size[1]), height: Number(size[2]) };
  });
  return { name: found.get(`${PREFIX}name`), landscape, upright };
}

// [number, bytes] of each field that holds bytes; the graph, some megabytes, is passed over as a view.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error('the model file is cut short');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const [field, kind] = [Math.floor(key / 8), key % 8];
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      if (at + length > bytes.length) throw new Error('the model file is cut short');
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error('this is no ONNX file');
  }
}
