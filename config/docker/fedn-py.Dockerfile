# fedn_py for any role: `docker build -f config/docker/fedn-py.Dockerfile .` from the root of the checkout.
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY fedn_py fedn_py
COPY test/digits-sklearn test/digits-sklearn
COPY test/mnist-keras test/mnist-keras
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# What clients of this image can train with: sklearn, keras, torch; empty for reducers and combiners alone.
ARG EXTRAS=sklearn
COPY constraints.txt /wheels/
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt "$(ls /wheels/fedn_py-*.whl)[${EXTRAS}]" \
    && rm -r /wheels \
    && useradd --uid 10001 --create-home fedn \
    && install -d -o fedn -g fedn /authority /operator-key /network /sites /state /state/reducer /state/combiner /state/clients
COPY config/docker/bin/ /usr/local/bin/
COPY config/docker/*.yaml /etc/fedn_py/
USER fedn
WORKDIR /state
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["fedn-py"]
