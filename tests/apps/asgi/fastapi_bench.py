"""A FastAPI app as it is written for an API: a path parameter, a checked query, and a model as JSON."""

import asyncio
import os

from fastapi import FastAPI, Query
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


class Page(BaseModel):
    total: int
    items: list[Item]


@app.get("/")
async def index(limit: int = Query(default=5, ge=1, le=100)) -> Page:
    items = [Item(id=n, name=f"item {n}", price=n * 1.5, tags=["red", "green"]) for n in range(limit)]
    return Page(total=1000, items=items)


@app.get("/pid")
async def pid() -> int:
    """Returns the pid, after a short delay, so that another process has to handle the next request."""
    await asyncio.sleep(0.005)
    return os.getpid()
