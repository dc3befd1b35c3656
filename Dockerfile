# tinyhd on a processor:
#   docker build -t tinyhd .
#   docker run --rm -v "$PWD:/work" tinyhd predict clip.mp4 --overlay out.mp4
FROM python:3.12-slim
COPY . /src
# PyTorch's CPU build: the one on PyPI brings gigabytes for graphics cards.
RUN pip install --no-cache-dir --constraint /src/constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' /src/constraints.txt)+cpu" /src \
    && rm -rf /src
# Any user may run it, without a home: what can be made again is kept where everybody can write.
ENV TINYHD_CACHE=/tmp/tinyhd
WORKDIR /work
ENTRYPOINT ["tinyhd"]
