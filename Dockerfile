# zkv, its dependencies by version and hash, and nothing else; it runs as a user of its own.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements/run.txt requirements/
RUN python -m venv /opt/zkv && \
    /opt/zkv/bin/python -m pip install -q --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/run.txt
COPY . .
RUN /opt/zkv/bin/python -m pip install -q --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

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
