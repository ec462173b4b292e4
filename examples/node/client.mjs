#!/usr/bin/env node
// Streams a video to the service frame by frame (I420) and writes each frame's mask as a PNG.
//
// Exit status: 0 done, 1 it could not be done (said on standard error), 2 usage.

import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import { readY4m } from './y4m.mjs';

const PROTO_FOLDER = fileURLToPath(new URL('../../proto', import.meta.url));
// Two or three keep the engine busy; more cost memory on both sides and gain nothing.
const MAX_UNANSWERED = 4;

const HELP = `usage: node client.mjs [--server HOST:PORT] [--model NAME] [--out DIR] VIDEO

VIDEO is a video file, read by ffmpeg; a .y4m file; or - for y4m on standard input.

  node examples/node/client.mjs --out masks talk.mp4          masks/0000.png, 0001.png, ...
  ffmpeg -i talk.mp4 -pix_fmt yuv420p -color_range tv -f yuv4mpegpipe - | node examples/node/client.mjs -

  --server HOST:PORT   default 127.0.0.1:50051
  --model NAME         default: the server's own
  --out DIR            where masks go, made if missing; default masks
  --ffmpeg PROGRAM     default ffmpeg
`;

async function main() {
  const options = readArguments();
  await mkdir(options.out, { recursive: true });
  const frames = readY4m(openVideo(options));
  const { value: video } = await frames.next();
  const client = openClient(options.server);
  try {
    const masks = await segment(client, options, video, frames);
    console.log(`${masks} masks of ${video.width}x${video.height} in ${options.out}`);
  } finally {
    client.close();
  }
}

function readArguments() {
  const text = (value) => ({ type: 'string', default: value });
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        server: text('127.0.0.1:50051'), model: text(''), out: text('masks'), ffmpeg: text('ffmpeg'),
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help) {
      console.log(HELP);
      process.exit(0);
    }
    if (positionals.length !== 1) throw new Error(`one VIDEO is wanted, got ${positionals.length}`);
    return { ...values, video: positionals[0] };
  } catch (error) {
    console.error(`${error.message}\n${HELP}`);
    process.exit(2);
  }
}

function openVideo({ video, ffmpeg }) {
  if (video === '-') return process.stdin;
  if (video.endsWith('.y4m')) return createReadStream(video);
  return decode(video, ffmpeg);
}

async function* decode(video, ffmpeg) {
  const decoder = spawn(ffmpeg, [
    '-nostdin', '-v', 'error', '-i', `file:${video}`, '-map', '0:v:0', '-f', 'yuv4mpegpipe', '-vf',
    'scale=out_color_matrix=bt601:out_range=tv,format=yuv420p', 'pipe:1',
  ], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve, reject) => {
    decoder.on('error', (error) => reject(new Error(`${ffmpeg}: ${error.message}`)));
    decoder.on('exit', (status) => {
      if (status === 0) resolve();
      else reject(new Error(`${video}: ffmpeg could not read it (status ${status})`));
    });
  });
  // Looked at below, once all that it wrote has been read.
  ended.catch(() => {});
  try {
    yield* decoder.stdout;
    await ended;
  } finally {
    decoder.kill();
  }
}

function openClient(target) {
  const definition = protoLoader.loadSync('humanseg/v1/segmentation.proto', {
    includeDirs: [PROTO_FOLDER], keepCase: true, enums: String, longs: Number, defaults: true, oneofs: true,
  });
  const { SegmentationService } = grpc.loadPackageDefinition(definition).humanseg.v1;
  return new SegmentationService(target, grpc.credentials.createInsecure(), {
    // Masks are smaller than the frames they belong to; gRPC's default of 4 MiB would refuse large ones.
    'grpc.max_receive_message_length': 64 * 1024 * 1024,
  });
}

// Send every frame, write every mask; how many there were.
async function segment(client, { model, out }, video, frames) {
  const call = client.StreamSegment();
  let sent = 0;
  let written = 0;
  const room = new Gate();
  const sending = (async () => {
    call.write({ config: {
      model, width: video.width, height: video.height, pixel_format: 'PIXEL_FORMAT_I420',
      frame_policy: 'FRAME_POLICY_EVERY', mask_encoding: 'MASK_ENCODING_PNG', session_label: 'node',
    } });
    for await (const picture of frames) {
      while (sent - written >= MAX_UNANSWERED) await room.wait();
      sent += 1;
      call.write({ frame: { frame_id: sent, capture_time_us: Math.round((sent * 1e6) / video.fps), picture } });
    }
    call.end();
  })();
  // Reading a broken video ends the call as well; the error of the video is the one to tell.
  sending.catch(() => call.cancel());
  const answers = (async () => {
    // Iterated, so that nothing more is read from the server while a mask is being written.
    for await (const answer of call) {
      if (answer.message !== 'result') continue;
      const { frame_id: id, outcome, mask, drop_reason: reason, drop_detail: detail } = answer.result;
      if (outcome !== 'FRAME_OUTCOME_MASK') throw new Error(`frame ${id} has no mask: ${reason} ${detail}`);
      await writeFile(join(out, `${String(id - 1).padStart(4, '0')}.png`), mask);
      written += 1;
      room.open();
    }
  })();
  const [sendingEnd, answersEnd] = await Promise.allSettled([Promise.race([sending, answers.then(() => sending)]), answers]);
  if (sendingEnd.status === 'rejected') throw sendingEnd.reason;
  if (answersEnd.status === 'rejected') throw answersEnd.reason;
  if (!written) throw new Error('the video holds no picture');
  if (written !== sent) throw new Error(`${sent} frames sent, ${written} masks came back`);
  return written;
}

// Lets one waiter through each time it is opened.
class Gate {
  #open = () => {};

  wait() {
    return new Promise((resolve) => { this.#open = resolve; });
  }

  open() {
    this.#open();
  }
}

main().catch((error) => {
  const isStatus = typeof error.code === 'number' && error.details !== undefined;
  console.error(isStatus ? `${grpc.status[error.code]}: ${error.details}` : error.message);
  process.exit(1);
});
