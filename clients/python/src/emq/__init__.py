"""emq's client: adds tasks to the queues of an emq server, and takes and does them.

```python
import emq

with emq.Client("http://localhost:8080") as client:
    client.enqueue("mail", {"to": "ann@example.org"})
    for task in client.tasks("mail", lease=60):
        with task:
            send(task.content)
```

`AsyncClient` is the same for asyncio. `docs/python.md` in the repository of emq explains both.
"""

from ._app import App
from ._async_client import AsyncClient
from ._call import DEFAULT, Default
from ._client import Client
from ._errors import (
    BadRequest,
    ClientClosed,
    Conflict,
    ConnectionFailed,
    Error,
    Forbidden,
    InvalidRequest,
    KeyTaken,
    NoSuchKey,
    NoSuchSource,
    NoSuchTask,
    NotFound,
    OutcomeUnknown,
    PageGone,
    QueueFull,
    Recovering,
    ServerError,
    Stopping,
    StorageFull,
    TaskUnfinished,
    Timeout,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from ._execution import current_task
from ._function import BoundCall, FunctionOptions, TaskFunction, TaskOptions
from ._handle import Handle, TaskFailed
from ._new_task import NewTask
from ._task import Dead, Outcome, Release, Retry, TakenTasks, Task
from ._types import Enqueued, Page
from ._types_server import Event
from ._version import VERSION as __version__

__all__ = [
    "App",
    "AsyncClient",
    "BadRequest",
    "BoundCall",
    "Client",
    "ClientClosed",
    "Conflict",
    "ConnectionFailed",
    "DEFAULT",
    "Dead",
    "Default",
    "Enqueued",
    "Error",
    "Event",
    "Forbidden",
    "FunctionOptions",
    "Handle",
    "InvalidRequest",
    "KeyTaken",
    "NewTask",
    "NoSuchKey",
    "NoSuchSource",
    "NoSuchTask",
    "NotFound",
    "Outcome",
    "OutcomeUnknown",
    "Page",
    "PageGone",
    "QueueFull",
    "Recovering",
    "Release",
    "Retry",
    "ServerError",
    "Stopping",
    "StorageFull",
    "TakenTasks",
    "Task",
    "TaskFailed",
    "TaskFunction",
    "TaskOptions",
    "TaskUnfinished",
    "Timeout",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "__version__",
    "current_task",
]
