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


FRAMES = (
    """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><style></style><body style="margin: 0">%s</body></html>"""
)
FRAME = """<iframe style="border: 0; width: %dpx; height: %dpx" srcdoc="%s"></iframe>"""


def framed(pages, script, width, height):
    """A page that shows each of these pages in a frame of that size, and a script that returns a list of what the script finds in each."""
    shown = "".join(FRAME % (width, height, html.escape(page)) for page in pages)
    code = json.dumps(f"(() => {{ {script} }})()")
    return FRAMES % shown, f'return [...document.querySelectorAll("iframe")].map((frame) => frame.contentWindow.eval({code}));'


def run(page, script, width=1400, height=1000, dark=False):
    """What the script returns in the loaded page. The script is the body of a function. AssertionError if the page has an error.

    dark: whether the reader prefers a dark page. A window of Chromium is at least 500 pixels wide. So a narrower page is shown in a frame.
    """
    if width < 500:
        page, script = framed([page], script, width, 4000)
        script, width = script.replace("return", "const [found] =", 1) + "return found;", 500
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
