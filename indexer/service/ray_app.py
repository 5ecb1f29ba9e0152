"""The service as an application of Ray Serve: slices, and processes that answer, behind Serve's own proxies.

For `serve run` and KubeRay's RayService, whose `import_path` is `indexer.service.ray_app:application`. `indexer serve --engine ray`
answers from its own process instead, which takes two hops less.
"""

import hashlib
import hmac
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder.errors import HashgrainError, Reason
from indexer.common_cli import read_token
from indexer.service.app import make_app
from indexer.service.guard import Guard
from indexer.service.in_slices import gauges_of, in_slices, local_folder
from indexer.service.server import make_state, warm_up
from indexer.service.settings import ServeSettings
from indexer.settings import Trust
from indexer.slices.holding import SliceSettings
from indexer.slices.line_fan import Replicas
from indexer.slices.ray_slices import SlicePlan, deployments, looking


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What the application is told, as `args` of Serve's configuration has it.

    Raises:
        HashgrainError: `bad-value`.
    """

    index: str
    """Folder that every node sees, or a URL."""
    token_file: str
    """File with the token that every request has to know: proxies listen to other machines."""
    slices: int = 1
    replicas: int = 1
    """Processes that hold each slice."""
    ingresses: int = 1
    """Processes that answer."""
    copy_to: str | None = None
    partial: bool = False
    cores: float = 1.0
    """That each process books."""
    host_names: tuple[str, ...] = ()
    """Names that the service is called by."""
    images_under: tuple[str, ...] | None = None
    with_model: bool = True

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> "AppSettings":
        """Return settings of a mapping, whose lists are those of JSON or YAML."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()
        }
        try:
            settings = cls(**given)
        except TypeError as err:
            raise HashgrainError(Reason.BAD_VALUE, f"the application's arguments are not known: {err}") from err
        if settings.ingresses < 1:
            raise HashgrainError(Reason.BAD_VALUE, f"ingresses is {settings.ingresses}; it must be at least 1")
        return settings

    @property
    def plan(self) -> SlicePlan:
        """Return how the index is held."""
        return SlicePlan(self.slices, self.replicas, partial=self.partial, copy_to=self.copy_to, cores=self.cores)


class Ingress:
    """A process that answers, as Ray Serve runs it.

    Args:
        settings: of the application.
        handles: of the deployments of the slices, in their order.
    """

    def __init__(self, settings: AppSettings, *handles: Any) -> None:
        self._held, self._stop = ExitStack(), threading.Event()
        with ThreadPoolExecutor(1) as thread:  # what waits for handles may not do so in Serve's event loop
            self._app = thread.submit(self._open, settings, handles).result()

    def __serve_build_asgi_app__(self) -> Guard:
        return self._app

    def __del__(self) -> None:
        self._stop.set()
        self._held.close()

    def _open(self, settings: AppSettings, handles: tuple[Any, ...]) -> Guard:
        token = read_token(Path(settings.token_file))
        folder = self._held.enter_context(local_folder(settings.index))
        replicas = Replicas(settings.slices, looking(handles), secret_of(token))
        self._held.callback(replicas.close)
        trust = Trust(images_under=settings.images_under)
        opened = in_slices(folder, replicas, settings.plan, model=None, trust=trust)
        serving = ServeSettings(host="0.0.0.0", token=token, host_names=settings.host_names, warm_bytes=0)  # noqa: S104 - Serve's proxies listen, this does not
        state = make_state(opened, serving, with_model=settings.with_model)
        state.metrics.watch(gauges_of(replicas))
        warm_up(state)
        threading.Thread(target=state.holder.watch, args=(serving.refresh, self._stop), daemon=True).start()
        return make_app(state)


def application(arguments: Mapping[str, Any]) -> Any:
    """Return the application; see `AppSettings`.

    Raises:
        HashgrainError: `bad-value`.
    """
    from encoder.runtime.cluster import load_ray

    load_ray()
    from ray import serve

    settings = AppSettings.parse(arguments)
    secret = secret_of(read_token(Path(settings.token_file)))
    base = SliceSettings(settings.index, 0, settings.slices, secret, settings.copy_to)
    slices = deployments(settings.plan, base, settings.cores, 0)
    ingress = serve.deployment(
        serve.ingress()(Ingress),
        name="ingress",
        num_replicas=settings.ingresses,
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": settings.cores},
    )
    return ingress.bind(settings, *slices)


def secret_of(token: str) -> bytes:
    """Return what the processes of an application know, from which the token cannot be told: it is the same after a restart."""
    return hmac.digest(token.encode(), b"hashgrain lines", hashlib.sha256)
