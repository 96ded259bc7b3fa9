# The server in a container:      docker build -t tonearm . && docker run --rm -p 8000:8000 tonearm
# Any other command:              docker run --rm -v ~/Music:/music:ro tonearm classify /music
FROM python:3.13-slim

WORKDIR /tonearm
COPY pyproject.toml README.md LICENSE THIRD-PARTY.md ./
COPY src src
RUN pip install --no-cache-dir '.[serve]'

USER nobody
EXPOSE 8000
# Not by way of HTTP_PROXY, which Docker may pass on.
HEALTHCHECK --start-period=30s CMD ["python", "-c", \
    "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["tonearm"]
# Inside a container 127.0.0.1 is the container's own.
CMD ["serve", "--host", "0.0.0.0"]
