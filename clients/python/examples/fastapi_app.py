"""A web application with FastAPI that leaves slow work to workers, and waits for results without a thread for each.

    pip install ./clients/python fastapi uvicorn
    cd clients/python/examples
    uvicorn fastapi_app:app
    python -m emq work fastapi_app:tasks --jobs 100 --pool asyncio

    curl --json '{"text": "hello"}' localhost:8000/shouts
    curl 'localhost:8000/shouts/ID?wait=10'
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import emq
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

tasks = emq.App()


@tasks.task(queue="shouts", max_retries=5, keep=3600)
async def shout(text: str) -> str:
    """Pretends to ask a slow service."""
    await asyncio.sleep(0.1)
    return text.upper()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await tasks.async_client.close()


app = FastAPI(lifespan=lifespan)


class Shout(BaseModel):
    text: str


@app.post("/shouts", status_code=202)
async def add_shout(body: Shout) -> dict[str, str]:
    handle = await shout.enqueue_async(text=body.text)
    return {"id": handle.id}


@app.get("/shouts/{id}")
async def show_shout(id: str, wait: Annotated[float, Query(ge=0, le=60)] = 0) -> dict[str, Any]:
    try:
        return dict(await tasks.async_client.result(id, timeout=wait))
    except (emq.NoSuchTask, emq.InvalidRequest):
        raise HTTPException(404, "there is no such shout") from None


@app.exception_handler(emq.ConnectionFailed)
@app.exception_handler(emq.Unavailable)
async def try_again_later(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "try again later"}, 503, {"Retry-After": "10"})
