# syntax=docker/dockerfile:1
# An image to train and to predict in; docs/docker.md says how.
FROM python:3.12-slim

# "" for the CPU; cuda13 or cuda12 for NVIDIA GPUs: jax brings CUDA itself, the host its driver.
ARG ACCELERATOR=""

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app
# What is needed alone, so that a change of the code does not install it anew.
COPY requirements.txt requirements-predict.txt ./
RUN pip install --requirement requirements-predict.txt \
    && if [ -n "${ACCELERATOR}" ]; then pip install "jax[${ACCELERATOR}]>=0.10.2,<0.12"; fi
COPY . .

# No process needs to be root. Data sets, weights that are downloaded and uploads go below /data.
RUN useradd --create-home --uid 1000 ssd \
    && mkdir --parents /data /runs /app/runs \
    && chown ssd:ssd /data /runs /app/runs
USER 1000
ENV TFDS_DATA_DIR=/data/tensorflow_datasets \
    KERAS_HOME=/data/keras \
    GRADIO_TEMP_DIR=/tmp/gradio
VOLUME ["/data", "/runs"]
EXPOSE 7860

ENTRYPOINT ["python"]
CMD ["predict.py", "--help"]
