// Opens a page in headless Chromium with a file as its camera, presses a button, waits until a condition holds, and
// prints what is seen as JSON; pictures of canvases and of the page land in a folder. tests/support/page.py calls it.

import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const task = JSON.parse(process.argv[2]);
const require = createRequire(pathToFileURL(`${task.packages}/`));
const { chromium } = require('playwright-core');

const context = await chromium.launchPersistentContext(join(task.folder, 'profile'), {
  executablePath: task.browser,
  headless: true,
  viewport: { width: 1500, height: 620 },
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
    `--use-file-for-fake-video-capture=${task.camera}`,
    // Nothing but this machine.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
  ],
});
const page = await context.newPage();
const seen = { console: [], requests: [] };
page.on('console', (message) => { if (message.type() === 'error') seen.console.push(message.text()); });
page.on('pageerror', (error) => seen.console.push(String(error)));
page.on('request', (request) => seen.requests.push(request.url()));
try {
  await page.goto(task.url);
  if (task.press) await page.click(task.press);
  await page.waitForFunction(task.until, null, { timeout: task.limit_ms, polling: 100 });
  for (const [name, selector] of Object.entries(task.canvases)) {
    const base64 = await page.evaluate(async (chosen) => {
      const source = document.querySelector(chosen);
      const canvas = new OffscreenCanvas(source.videoWidth || source.width, source.videoHeight || source.height);
      canvas.getContext('2d').drawImage(source, 0, 0);
      const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
      let text = '';
      for (const byte of bytes) text += String.fromCharCode(byte);
      return btoa(text);
    }, selector);
    await writeFile(join(task.folder, `${name}.png`), Buffer.from(base64, 'base64'));
  }
} catch (error) {
  seen.failed = String(error);
}
seen.text = await page.evaluate(() => document.body.innerText);
seen.figures = await page.evaluate(() => globalThis.figures ?? null);
await page.screenshot({ path: join(task.folder, 'page.png') });
await context.close();
console.log(JSON.stringify(seen));
