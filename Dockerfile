# A CPU-only image:
#   docker build -t tinyhd .
#   docker build -t tinyhd --build-arg EXTRAS=cluster,s3 .   # with extras of pyproject.toml
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" tinyhd predict clip.mp4 --overlay out.mp4
FROM python:3.12 AS kernels
COPY . /src
# This image has a compiler, which builds the C kernels.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.12-slim
ARG EXTRAS=
COPY constraints.txt /wheels/
COPY --from=kernels /wheels /wheels
# The CPU build of PyTorch; the one on PyPI installs gigabytes of CUDA packages.
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' /wheels/constraints.txt)+cpu" "$(echo /wheels/*.whl)${EXTRAS:+[$EXTRAS]}" \
    && rm -rf /wheels
# Any user can run the image, even without a home folder: each container creates this folder for its own user.
ENV TINYHD_CACHE=/tmp/tinyhd
RUN useradd --uid 1000 --create-home tinyhd
USER tinyhd
WORKDIR /work
ENTRYPOINT ["tinyhd"]
