"""Takes screenshots with a headless Chromium, through its debugging pipe: no package is needed."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# What a new tab of Chromium has by default, and the width of a common phone.
DESKTOP, PHONE = 900, 390


def find():
    for name in NAMES:
        if path := shutil.which(name):
            return path
    sys.exit("screenshots need Chromium or Chrome (Debian: apt install chromium)")


class Browser:
    """A browser with one page. Chromium reads commands from descriptor 3, and writes answers to 4."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="browser-")
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        command = [find(), "--headless", "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "--hide-scrollbars"]
        command += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        if os.getuid() == 0:
            command.append("--no-sandbox")
        # The shell gives the pipes the numbers that Chromium expects, whatever they are here.
        shell = ["sh", "-c", f'exec "$0" "$@" 3<&{commands} 4>&{answers}', *command]
        self.process = subprocess.Popen(
            shell, pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self.number, self.buffer, self.session = 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        answer = self.until(lambda it: it.get("id") == self.number)
        if "error" in answer:
            sys.exit(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def until(self, wanted):
        while True:
            while b"\0" not in self.buffer:
                data = os.read(self.answers, 1 << 16)
                if not data:
                    sys.exit(f"the browser ended with {self.process.wait()}")
                self.buffer += data
            message, self.buffer = self.buffer.split(b"\0", 1)
            message = json.loads(message)
            if wanted(message):
                return message

    def picture(self, url, file, width=DESKTOP, dark=False):
        """Writes a screenshot of a whole page, as high as the page is."""
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.size(width, 200)
        self.call("Page.navigate", url=url)
        self.until(lambda it: it.get("method") == "Page.loadEventFired")
        content = self.call("Page.getLayoutMetrics")["cssContentSize"]
        if content["width"] > width:
            sys.exit(f"{url} is {content['width']} px wide, and doesn't fit into {width} px")
        self.size(width, max(int(content["height"]), 200))
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(file).write_bytes(base64.b64decode(data))

    def size(self, width, height):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1.5, mobile=width == PHONE
        )

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)
