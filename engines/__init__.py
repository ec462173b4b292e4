"""Runners: everything that turns a batch of network inputs into alphas, behind one contract."""

import os

# Since 1.29 ONNX Runtime's wheels for Linux report their sessions to Microsoft unless this is set before they are
# imported. Whoever wants that can still say so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
