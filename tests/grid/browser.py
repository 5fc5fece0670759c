"""Opens pages in a headless Chromium, and does what a person would do there.

A script is a list of steps, one an argument: `PAGE open URL`, `PAGE run EXPRESSION`, or `PAGE wait EXPRESSION`, which waits until
the JavaScript expression is true. Pages have any names.
"""

import asyncio
import json
import subprocess
import sys
import tempfile

from websockets.asyncio.client import connect

PATIENCE = 30


class Page:
    """A tab, over Chromium's DevTools protocol."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    async def evaluate(self, expression):
        result = await self.browser.call("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def open(self, url):
        await self.browser.call("Page.navigate", self.session, url=url)
        await self.wait(f"location.href.startsWith({json.dumps(url)}) && document.readyState == 'complete'")

    async def run(self, expression):
        await self.evaluate(expression)

    async def wait(self, expression):
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not await self.evaluate(expression):
            if asyncio.get_running_loop().time() > deadline:
                text = await self.evaluate("document.documentElement.innerText")
                raise TimeoutError(f"waited until {expression}, and the page says: {text}")
            await asyncio.sleep(0.02)


class Browser:
    def __init__(self, socket):
        self.socket, self.number = socket, 0

    async def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        await self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(await self.socket.recv())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    async def page(self):
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Page(self, attached["sessionId"])


async def run(steps, devtools):
    async with connect(devtools, max_size=None) as socket:
        browser, pages = Browser(socket), {}
        for step in steps:
            name, action, argument = step.split(" ", 2)
            if name not in pages:
                pages[name] = await browser.page()
            page = pages[name]
            await {"open": page.open, "run": page.run, "wait": page.wait}[action](argument)


def main(chromium, *steps):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]
        command += ["--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            for line in process.stderr:
                if "DevTools listening on " in line:
                    asyncio.run(run(steps, line.split("listening on ")[1].strip()))
                    return
            raise RuntimeError(f"{chromium} ended with {process.wait()}")
        finally:
            process.terminate()
            process.wait()


main(*sys.argv[1:])
