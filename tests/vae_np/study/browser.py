"""Opens a page in headless Chromium, runs a script in it, and returns what the script finds."""

import html
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync".split()

CATCH = '<script>window.wrong = []; addEventListener("error", (e) => wrong.push(String(e.message || e.target.outerHTML)), true);</script>'
REPORT = """
<script>addEventListener("load", () => {
  let found;
  try { found = (() => { %s })(); } catch (error) { wrong.push(String(error)); }
  const report = document.createElement("pre");
  report.id = "report";
  report.textContent = JSON.stringify({ found, wrong });
  document.body.append(report);
});</script>"""


NARROW = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><style></style><body style="margin: 0">
<iframe style="border: 0; width: %dpx; height: 4000px" srcdoc="%s"></iframe></body></html>"""


def run(page, script, width=1400, height=1000, dark=False):
    """What the script returns in the loaded page. The script is the body of a function. AssertionError if the page has an error.

    dark: whether the reader prefers a dark page. A window of Chromium is at least 500 pixels wide. So a narrower page is shown in a frame.
    """
    if width < 500:
        page = NARROW % (width, html.escape(page))
        script = f'return document.querySelector("iframe").contentWindow.eval({json.dumps(f"(() => {{ {script} }})()")});'
        width = 500
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "page.html")
        path.write_text(
            page.replace("<head>", "", 1)
            .replace("<style>", CATCH + "<style>", 1)
            .replace("</html>", REPORT % script + "</html>")
        )
        options = [*QUIET, f"--user-data-dir={folder}/profile", f"--window-size={width},{height}", "--virtual-time-budget=3000"]
        options += [f"--blink-settings=preferredColorScheme={int(not dark)}"]
        command = [CHROMIUM, "--headless", *options, "--dump-dom", path.as_uri()]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
    (report,) = re.findall(r'<pre id="report">(.*?)</pre>', shown, re.DOTALL)
    report = json.loads(html.unescape(report))
    assert not report["wrong"], report["wrong"]
    return report["found"]


def pages(page):
    """How many sheets of paper the page takes when it is printed."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = pathlib.Path(folder, "page.html"), pathlib.Path(folder, "page.pdf")
        path.write_text(page)
        options = [*QUIET, f"--user-data-dir={folder}/profile", f"--print-to-pdf={out}"]
        subprocess.run([CHROMIUM, "--headless", *options, path.as_uri()], capture_output=True, timeout=600, check=True)
        return len(re.findall(rb"/Type /Page\b", out.read_bytes()))
