"""What a route is given besides its fields: the service's parts, and who asks."""

from typing import Annotated

from fastapi import Depends, Path, Request
from starlette.concurrency import run_in_threadpool

from serving.caller import Caller
from serving.service import Service


# Async, both: FastAPI hands a plain function to another thread, which costs more than it does.
async def _caller(request: Request) -> Caller:
    return Caller.of(request)


Asker = Annotated[Caller, Depends(_caller)]


async def whole(request: Request) -> Service:
    """The service with everybody's videos."""
    service: Service = request.app.state.service
    return service


async def _for(scope: str, request: Request, asker: Caller) -> Service:
    service = await whole(request)
    return service.within(await run_in_threadpool(service.keys.check, asker.token, scope))


async def authorized(request: Request, asker: Asker) -> Service:
    """The service as it is for the holder of the key that was sent. Raises ApiError 401 or 403."""
    return await _for("read" if request.method in ("GET", "HEAD") else "write", request, asker)


async def monitored(request: Request, asker: Asker) -> Service:
    """The service, for a key that may see its figures. Raises ApiError 401 or 403."""
    return await _for("metrics", request, asker)


Whole = Annotated[Service, Depends(whole)]
Monitored = Annotated[Service, Depends(monitored)]
Parts = Annotated[Service, Depends(authorized)]
VideoId = Annotated[
    str,
    Path(
        description="Which video. Must be an id that this service has given.",
        examples=["video_0a1b2c3d"],
    ),
]
