# syntax=docker/dockerfile:1
# An image to train and to predict in; docs/docker.md says how.
FROM python:3.11-slim

# "" for the CPU; cuda13 or cuda12 for NVIDIA GPUs: jax brings CUDA itself, the host its driver.
ARG ACCELERATOR=""

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app
# Only what names the dependencies, so that a change of the code does not install them anew.
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY ssd_jax/__init__.py ssd_jax/
COPY configs/__init__.py configs/
ENV PIP_CONSTRAINT=/app/requirements.lock
RUN pip install --editable ".[train,benchmark,tensorboard,video,page,supervision]" \
    && if [ -n "${ACCELERATOR}" ]; then pip install "jax[${ACCELERATOR}]"; fi
COPY . .

# No process needs to be root. Data sets, and weights that are downloaded go below /data.
RUN useradd --create-home --uid 1000 ssd \
    && mkdir --parents /data /runs /app/runs \
    && chown ssd:ssd /data /runs /app/runs
USER 1000
ENV TFDS_DATA_DIR=/data/tensorflow_datasets \
    KERAS_HOME=/data/keras
VOLUME ["/data", "/runs"]
EXPOSE 7860

ENTRYPOINT ["ssd-jax"]
CMD ["--help"]
