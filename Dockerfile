# The service on CPUs: docker build -t humanseg:0.1.0 .   then   docker run -p 50051:50051 -p 9464:9464 humanseg:0.1.0
# On NVIDIA GPUs: docker build --target gpu --build-arg GPU_BASE=... ; docs/image.md has both, and what was ever built.
#
# The base is pinned by tag: which digest is current cannot be looked up where this file was written. Whoever releases
# pins it in both FROM lines as python:3.11-slim-bookworm@sha256:... and renews it with each security update of the base.

# An image with CUDA's runtime, glibc, and Python 3.11 or newer with venv. There is no default: a name under .invalid
# is nobody's.
ARG GPU_BASE=gpu-base-is-a-build-argument.invalid/see/docs-image-md:none

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
# server,openvino for the engines of OpenVINO.
ARG EXTRAS=server
COPY pyproject.toml constraints.txt deploy/image/install.sh ./
RUN sh install.sh "${EXTRAS}"
COPY humanseg /app/humanseg
COPY engines /app/engines
COPY service /app/service
# The root file system is read-only in production, so Python could not keep its bytecode there. By hash and unchecked:
# the files' times, which Python compares otherwise, need not survive the way into the next stage.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM python:3.11-slim-bookworm AS runtime
LABEL org.opencontainers.image.title="humanseg" \
      org.opencontainers.image.description="Cuts people out of live video, frame by frame, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# MALLOC_*: glibc keeps the memory of large messages instead of mapping it anew for each frame (about half of the CPU
# time of the bare gRPC path at 640x360); they must stand in the environment before the process starts.
# ORT_*: since 1.29 ONNX Runtime's wheels tell Microsoft about each session, unless this is set.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HUMANSEG_REFLECTION=false \
    ORT_DISABLE_TELEMETRY=1 \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=536870912 \
    MALLOC_TOP_PAD_=67108864
WORKDIR /app
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "service.healthcheck"]
CMD ["python", "-m", "service", "--host", "0.0.0.0"]

# The same on NVIDIA GPUs. What this environment says is what the one above says, and the engine (a test compares).
FROM ${GPU_BASE} AS gpu-build
WORKDIR /build
# TensorRT comes from NVIDIA's own index, given as PIP_EXTRA_INDEX_URL; for ONNX Runtime's CUDA provider alone: cuda.
ARG GPU_EXTRAS=server,tensorrt
ARG PIP_EXTRA_INDEX_URL=""
COPY pyproject.toml constraints.txt deploy/image/install.sh ./
RUN sh install.sh "${GPU_EXTRAS}"
COPY humanseg /app/humanseg
COPY engines /app/engines
COPY service /app/service
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app && mkdir /plans

FROM ${GPU_BASE} AS gpu
LABEL org.opencontainers.image.title="humanseg" \
      org.opencontainers.image.description="Cuts people out of live video, frame by frame, over gRPC, on NVIDIA GPUs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=gpu-build /opt/venv /opt/venv
COPY --from=gpu-build /app /app
# Built engines. A new named volume takes over the owner of what it covers.
COPY --from=gpu-build --chown=10001:10001 /plans /plans
# NVIDIA_*: what NVIDIA's container runtime puts into a container whose base does not ask for it.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HUMANSEG_REFLECTION=false \
    ORT_DISABLE_TELEMETRY=1 \
    HUMANSEG_ENGINE=tensorrt \
    HUMANSEG_PLANS=/plans \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=536870912 \
    MALLOC_TOP_PAD_=67108864 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
USER 10001:10001
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "service.healthcheck"]
# NVIDIA's bases have a shell script there, which would stand between SIGTERM and the service.
ENTRYPOINT []
CMD ["python", "-m", "service", "--host", "0.0.0.0"]

# Last, so that a build without --target makes it.
FROM runtime AS cpu
