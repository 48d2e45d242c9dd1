# zkv, its dependencies by version and hash, and nothing else; it runs as a user of its own.
# With --build-arg ZKV_COMPILE=1 the modules of the hot path are machine code, and the build takes some minutes more.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ARG ZKV_COMPILE=0
WORKDIR /src
ENV PIP="-m pip --no-cache-dir --disable-pip-version-check -q"
COPY requirements/run.txt requirements/compile.txt requirements/
RUN python -m venv /opt/zkv && /opt/zkv/bin/python $PIP install --require-hashes -r requirements/run.txt
RUN if [ "$ZKV_COMPILE" = 1 ]; then \
      apt-get update -q && apt-get install -qy --no-install-recommends gcc libc6-dev && \
      python -m venv /opt/build && /opt/build/bin/python $PIP install --require-hashes -r requirements/compile.txt; \
    else ln -s zkv /opt/build; fi
COPY . .
RUN /opt/build/bin/python $PIP wheel --no-deps --no-build-isolation -w /wheels . && \
    /opt/zkv/bin/python $PIP install --no-deps /wheels/*

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/zkv --create-home zkv
COPY --from=build /opt/zkv /opt/zkv
ENV PATH=/opt/zkv/bin:$PATH
USER zkv
WORKDIR /var/lib/zkv
EXPOSE 2378 2379 2380
HEALTHCHECK --interval=5s --timeout=5s --start-period=5s --retries=12 CMD ["zkv", "endpoint", "health"]
ENTRYPOINT ["zkv"]
CMD ["server"]
