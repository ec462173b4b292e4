"""A page looked at by a real browser without a network: Chromium, headless, if this machine has one."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

from support.timing import limit_s

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Runs in a copy of the page and leaves what it found in an element that --dump-dom shows.
PROBE = """
<script>
addEventListener('load', () => {
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const luminance = color => {
    const [r, g, b] = rgb(color).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$|transparent/.test(color)) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const contrast = (ink, paper) => {
    const [a, b] = [luminance(ink), luminance(paper)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const seen = { charts: [], overlaps: [], outside: [], faint: [], smallestText: 99 };
  seen.paper = getComputedStyle(document.body).backgroundColor;
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    seen.charts.push({ name: svg.getAttribute('aria-label'), width: frame.width, height: frame.height });
    const scale = frame.width / svg.viewBox.baseVal.width;
    for (const node of svg.querySelectorAll('text'))
      seen.smallestText = Math.min(seen.smallestText, scale * parseFloat(getComputedStyle(node).fontSize));
    const texts = [...svg.querySelectorAll('text')].map(node => [node.textContent, node.getBoundingClientRect()]);
    texts.forEach(([text, box], number) => {
      const isWithin = box.left > frame.left - 1 && box.right < frame.right + 1;
      if (!isWithin || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) seen.outside.push(text);
      for (const [other, their] of texts.slice(number + 1)) {
        const wide = Math.min(box.right, their.right) - Math.max(box.left, their.left);
        const high = Math.min(box.bottom, their.bottom) - Math.max(box.top, their.top);
        if (wide > 1 && high > 3) seen.overlaps.push(text + ' | ' + other);
      }
    });
    for (const node of svg.querySelectorAll('text'))
      if (contrast(getComputedStyle(node).fill, behind(svg)) < 4.5) seen.faint.push('text ' + node.textContent);
    for (const node of svg.querySelectorAll('.fill, .dot'))
      if (contrast(getComputedStyle(node).fill, behind(svg)) < 1.5) seen.faint.push(node.getAttribute('class'));
    for (const node of svg.querySelectorAll('.line'))
      if (contrast(getComputedStyle(node).stroke, behind(svg)) < 3) seen.faint.push(node.getAttribute('class'));
  }
  for (const node of document.querySelectorAll('h1, h2, p, td, th, .name, .value, .under, b, span, li, footer'))
    if (node.textContent && contrast(getComputedStyle(node).color, behind(node)) < 4.5)
      seen.faint.push(node.textContent);
  seen.text = document.body.innerText;
  seen.pageWidth = document.body.scrollWidth;
  seen.viewWidth = document.body.clientWidth;
  const entries = performance.getEntriesByType('resource').map(entry => entry.name);
  seen.fetched = entries.filter(name => !name.startsWith('data:'));
  const out = document.createElement('pre');
  out.id = 'seen';
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>
"""


#: Smaller letters cannot be read at arm's length, in CSS pixels.
READABLE_PX = 9.5


def find_browser() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def look_at(page: Path, folder: Path, *, width: int = 1400, is_dark: bool = False) -> dict[str, Any]:
    """What a browser shows of a page: charts with their sizes, texts that overlap or are too faint, what it fetched."""
    browser = find_browser()
    assert browser is not None
    probed = folder / f"probed-{width}-{is_dark}.html"
    # No window of Chromium's is narrower than 500 px, but a page may be.
    narrow = f"<style>html {{ width: {width}px }}</style>"
    probed.write_text(page.read_text().replace("</head>", narrow + "</head>").replace("</body>", PROBE + "</body>"))
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},1400", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
            f"--blink-settings=preferredColorScheme={0 if is_dark else 1}", "--dump-dom", probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=limit_s(100), check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    seen["console"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return seen
