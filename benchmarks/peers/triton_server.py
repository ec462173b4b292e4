"""The same network behind a Triton Inference Server that runs already on this machine, through NVIDIA's client.

What a user of Triton writes himself is here: the letterbox there and back round one call of `infer` a frame.
"""

from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.bare import find_model
from benchmarks.peers.peer import Peer, PeerUnavailableError
from engines.registry import DEFAULT_ENGINE
from engines.runner import EngineError
from humanseg.vision.arrays import Alpha, AlphaBatch, Batch, Picture
from train.validation import letterboxed

#: Of one call.
TIMEOUT_S = 30.0


class TritonServer(Peer):
    """A model of a Triton server, one frame at a time over gRPC."""

    def __init__(self, address: str, models: Path, model: str) -> None:
        """Raises `PeerUnavailableError` where client, server or model cannot be had."""
        try:
            from tritonclient import grpc as triton
        except ImportError as error:
            raise PeerUnavailableError(
                f"Triton's client is not installed ({error.name}): install `humanseg[triton]`"
            ) from None
        try:
            # Only for what the file says of itself: the sizes of its input.
            runner = find_model(models, model, DEFAULT_ENGINE, threads=1)
        except EngineError as error:
            raise PeerUnavailableError(str(error)) from None
        metadata = runner.info.model
        runner.close()
        self._triton, self._model = triton, model
        self._client = triton.InferenceServerClient(address)
        try:
            described = self._client.get_model_metadata(model, client_timeout=TIMEOUT_S)
        except triton.InferenceServerException as error:
            raise PeerUnavailableError(f"no model {model} on a Triton at {address}: {error.message()}") from None
        self._input, self._output = described.inputs[0].name, described.outputs[0].name
        self._server = _listener(address)
        self._segment = letterboxed(self._run, metadata.landscape, metadata.upright)

    def segment(self, picture: Picture) -> Alpha:
        """Through the service's own letterbox, there and back."""
        return self._segment(picture)

    def _run(self, batch: Batch) -> AlphaBatch:
        given = self._triton.InferInput(self._input, list(batch.shape), "UINT8")
        given.set_data_from_numpy(batch)
        try:
            answer: Any = self._client.infer(self._model, [given], client_timeout=TIMEOUT_S)
        except self._triton.InferenceServerException as error:
            raise PeerUnavailableError(f"Triton failed: {error.message()}") from None
        return np.asarray(answer.as_numpy(self._output), np.float32)

    def cpu_elsewhere_s(self) -> float:
        """Of the server and its backends."""
        family = [self._server, *self._server.children(recursive=True)]
        times = [process.cpu_times() for process in family]
        return float(sum(time.user + time.system for time in times))

    def close(self) -> None:
        """Let go of the server; it goes on running."""
        self._client.close()


def _listener(address: str) -> psutil.Process:
    """The process that listens there; its CPU time is part of the cost.

    Raises:
        PeerUnavailableError: none on this machine, or it belongs to somebody else.
    """
    port = int(address.rpartition(":")[2])
    try:
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
                return psutil.Process(one.pid)
    except psutil.Error as error:
        raise PeerUnavailableError(f"the process behind {address} cannot be seen: {error}") from None
    raise PeerUnavailableError(f"no process on this machine listens at {address}; its CPU time is part of the cost")
