"""Runs the cells against one app, and prints a line of JSON for each."""

import argparse
import asyncio
import json
import re

from grid import bare, bodies, clients, life, requests, responses, streams, websockets  # noqa: F401
from grid.cell import CELLS
from grid.site import Site


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def arguments():
    parser = argparse.ArgumentParser(prog="grid", description=__doc__)
    parser.add_argument("--app", required=True, help="the framework, in lower case")
    parser.add_argument("--host", required=True, help="the host name of the app")
    parser.add_argument("--http", required=True, type=address, help="the address for plain HTTP")
    parser.add_argument("--https", type=address, help="the address for TLS")
    parser.add_argument("--ca", help="the file of the CA that signed its certificate")
    parser.add_argument("--mounted", type=address, help="the address of the app with the root path /mounted")
    parser.add_argument("--prefix", default="", help="what precedes paths there")
    parser.add_argument("--protocol", default="plain", choices=["plain", "tls", "http2"], help="for ordinary requests")
    parser.add_argument("--groups", required=True, help="the groups of cells to run, separated by commas")
    parser.add_argument("--only", default="", help="a regular expression for the names of cells")
    return parser.parse_args()


async def main(options):
    given = {key: value for key, value in vars(options).items() if key not in ["groups", "only"]}
    site = Site(**given)
    groups = options.groups.split(",")
    for cell in CELLS:
        if cell.group in groups and re.search(options.only, cell.name):
            outcome, message = await cell.run(site)
            print(json.dumps({"cell": cell.name, "outcome": outcome, "message": message}), flush=True)


asyncio.run(main(arguments()))
