# The service on CPUs: docker build -t humanseg:0.1.0 .   then   docker run -p 50051:50051 -p 9464:9464 humanseg:0.1.0
#
# The base is pinned by tag: which digest is current cannot be looked up where this file was written. Whoever releases
# pins it in both FROM lines as python:3.11-slim-bookworm@sha256:... and renews it with each security update of the base.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
# server,openvino for the engines of OpenVINO.
ARG EXTRAS=server
COPY pyproject.toml constraints.txt ./
# A humanseg with nothing but a version stands in for the real one, so that this long step is repeated only when
# dependencies change. It is taken out again: the image runs from /app like a checkout, with one humanseg on the path.
# pip stays behind as well.
RUN python -m venv /opt/venv \
    && mkdir humanseg && touch README.md LICENSE && echo '__version__ = "0"' > humanseg/__init__.py \
    && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" \
    && /opt/venv/bin/pip uninstall --yes humanseg pip
COPY humanseg /app/humanseg
COPY engines /app/engines
COPY service /app/service
# The root file system is read-only in production, so Python could not keep its bytecode there. By hash and unchecked:
# the files' times, which Python compares otherwise, need not survive the way into the next stage.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="humanseg" \
      org.opencontainers.image.description="Cuts people out of live video, frame by frame, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# MALLOC_*: glibc keeps the memory of large messages instead of mapping it anew for each frame (about half of the CPU
# time of the bare gRPC path at 640x360); they must stand in the environment before the process starts.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HUMANSEG_REFLECTION=false \
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
