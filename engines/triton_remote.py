"""A model in Triton Inference Servers, over gRPC: the service keeps the sessions, Triton has the GPUs.

Triton joins what comes from all replicas and workers of the service into its batches. A batch goes to the address with
the fewest under way; one that cannot be reached costs a try on another, within the same time limit.
"""

import logging
import threading
import time
from pathlib import Path

from engines.onnxruntime_model import inspect
from engines.remote import RemoteServers
from engines.runner import (
    EngineFailedError,
    EngineUnavailableError,
    RunnerInfo,
    check_alpha,
    check_batch,
)
from engines.triton_address import TritonAddress
from engines.triton_memory import RegionPool
from engines.triton_server import ModelWanted, ServerFailed, ServerTooSlow
from humanseg.shared_memory import sweep_stale_regions
from humanseg.vision.arrays import AlphaBatch, Batch

NAME = "triton"
LOGGER = logging.getLogger("humanseg.engines")


class TritonRunner:
    """An ONNX file that Triton servers run for us."""

    def __init__(self, path: Path, *, max_batch: int, concurrency: int, servers: RemoteServers) -> None:
        """Find the model on the servers; one that has it is enough, the others join once they have it.

        Args:
            path: the ONNX file; the servers must have the very same.
            max_batch: largest batch that `run` takes.
            concurrency: how many threads are going to call `run` at once; they wait most of the time.
            servers: where, and how long a batch may take.

        Raises:
            ModelFileError: the file is missing, not a model, or does not describe itself.
            EngineUnavailableError: no server has the model; names each and why.
        """
        inspected = inspect(path)
        self._closed = False
        self._timeout_s = servers.timeout_s
        self._state = threading.Lock()
        wanted = ModelWanted(inspected, max_batch)
        self._addresses = [
            TritonAddress(address, wanted, _regions(wanted) if servers.shared_memory else None)
            for address in servers.addresses
        ]
        releases = self._start(inspected.metadata.name)
        self._info = RunnerInfo(
            engine=NAME,
            model=inspected.metadata,
            path=path,
            max_batch=max_batch,
            preferred_batch=max_batch,
            concurrency=concurrency,
            device=", ".join(f"{release} at {address}" for address, release in releases.items()),
        )

    def _start(self, model: str) -> dict[str, str]:
        releases: dict[str, str] = {}
        failures: list[str] = []
        for one in self._addresses:
            try:
                releases[one.address] = one.start()
            except ServerFailed as error:
                failures.append(f"Triton at {one.address} cannot serve {model} ({error}); start it, or set --triton")
            except (EngineUnavailableError, EngineFailedError) as error:
                failures.append(str(error))
        if not releases:
            self.close()
            raise EngineUnavailableError(f"no Triton server runs model {model}: {'; '.join(failures)}")
        for failure in failures:
            LOGGER.warning("%s; it is left alone until it does", failure)
        return releases

    @property
    def info(self) -> RunnerInfo:
        """What this runner is."""
        return self._info

    def lacking(self) -> str | None:
        """Why nothing can be run now; None: something can."""
        if any(one.takes_calls for one in self._addresses):
            return None
        reasons = "; ".join(f"{one.address}: {one.reason or 'failed just now'}" for one in self._addresses)
        return f"no Triton server runs model {self._info.model.name}: {reasons}"

    def run(self, batch: Batch) -> AlphaBatch:
        """Segment a batch; see `engines.runner.Runner.run`."""
        check_batch(self._info, batch)
        deadline_s = time.monotonic() + self._timeout_s
        failures: dict[str, str] = {}
        while True:
            if self._closed:
                raise EngineFailedError(f"runner of {self._info.path.name} is closed")
            left_s = deadline_s - time.monotonic()
            chosen = self._choose(failures) if left_s > 0 else None
            if chosen is None:
                raise self._failed(failures)
            try:
                alpha = chosen.infer(batch, left_s)
            except ServerTooSlow as error:
                failures[chosen.address] = str(error)
                raise self._failed(failures) from error
            except ServerFailed as error:
                failures[chosen.address] = str(error)
            else:
                check_alpha(self._info, batch, alpha)
                return alpha
            finally:
                with self._state:
                    chosen.under_way -= 1

    def close(self) -> None:
        """End the watch over the servers; runs under way finish, later ones raise `EngineFailedError`."""
        self._closed = True
        for one in self._addresses:
            one.close()

    def _choose(self, tried: dict[str, str]) -> TritonAddress | None:
        """Book a batch at the address with the fewest; None where all failed or are left alone."""
        with self._state:
            usable = [one for one in self._addresses if one.address not in tried and one.takes_calls]
            if not usable:
                return None
            chosen = min(usable, key=lambda one: one.under_way)
            chosen.under_way += 1
            return chosen

    def _failed(self, failures: dict[str, str]) -> EngineFailedError:
        reasons = {one.address: one.reason for one in self._addresses if one.reason} | failures
        listed = "; ".join(f"{address}: {reason}" for address, reason in reasons.items())
        return EngineFailedError(f"no Triton server ran model {self._info.model.name}: {listed}")


def _regions(wanted: ModelWanted) -> RegionPool:
    sweep_stale_regions()
    model = wanted.inspected.metadata
    return RegionPool.for_pictures(wanted.max_batch, max(canvas.area_px for canvas in model.canvases), model.channels)
