"""Serves an ONNX file from Triton's Python backend by ONNX Runtime; `engines.repository` copies it into a repository.

It runs inside Triton, with numpy and onnxruntime of that Python and nothing of ours. Triton hands over the requests
that it has joined into a batch; they are run together, and one by one where that fails, so that a picture that the
model cannot take is the fault of its own request alone.
"""

import json
import os
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton looks for in the file."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load ``model.onnx``, which lies beside this file."""
        config = json.loads(args["model_config"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")  # noqa: PTH118
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request, in their order."""
        batches = [triton.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        try:
            together = self._run(np.concatenate(batches))
        except Exception:  # ONNX Runtime raises classes of its C++ side
            return [self._alone(batch) for batch in batches]
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        return [self._answer(alphas) for alphas in np.split(together, ends)]

    def _alone(self, batch: Any) -> Any:
        try:
            return self._answer(self._run(batch))
        except Exception as error:
            return triton.InferenceResponse([], triton.TritonError(" ".join(str(error).split())))

    def _run(self, batch: Any) -> Any:
        return self._session.run([self._output], {self._input: batch})[0]

    def _answer(self, alphas: Any) -> Any:
        return triton.InferenceResponse([triton.Tensor(self._output, np.ascontiguousarray(alphas))])
