#!/usr/bin/env bash
# Gathers what a GPU node without a network lacks, for benchmarks/gpu.sh.
#
#     bash benchmarks/gpu_prepare.sh [folder]        default .gpu/wheels, which git ignores
#
# Wheels for CPython 3.12 on Linux x86-64 (or PYTHON_VERSION), so that any machine with a package
# index can make them. PYTHON names the Python whose pip does it. Carry the folder to the node beside
# the checkout. Whatever a wheel requires must be in WHEELS or in HAVE, or this fails and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-.gpu/wheels}
python=${PYTHON:-python3}
version=${PYTHON_VERSION:-3.12}
limit_mib=60

# What the node has not: Hydra, datasets, W&B and what these need; 4-bit weights; the peer.
WHEELS=(
    "hydra-core>=1.3.3,<1.4" "omegaconf>=2.3,<2.4"
    "datasets>=4.4,<6" dill==0.4.1 "multiprocess<0.70.20"
    wandb==0.31.0 cwevals==0.0.1b1 distro httpx==0.28.1 platformdirs "protobuf>=6,<8" sniffio
    pydantic==2.14.4 pydantic-core==2.50.5 annotated-types typing-inspection
    "typing-extensions>=4.16" "click>=8.2"
    opentelemetry-api==1.45.2 opentelemetry-sdk==1.45.2 opentelemetry-proto==1.45.2
    opentelemetry-exporter-otlp-common==0.66b2 opentelemetry-exporter-otlp-proto-common==1.45.2
    opentelemetry-exporter-otlp-proto-http==1.45.2 opentelemetry-exporter-http-transport==0.66b2
    opentelemetry-semantic-conventions==0.66b2 googleapis-common-protos
    bitsandbytes==0.50.2 trl==1.16.0
)
# What it has, as images for PyTorch do; versions where they are known.
HAVE=(
    numpy==2.5.2 huggingface-hub==1.33.0 pandas pyarrow requests tqdm xxhash fsspec filelock
    packaging pyyaml anyio certifi httpcore idna h11 aiohttp
    torch==2.11.0 transformers==5.17.0 accelerate==1.15.0 jinja2 psutil
)
# Of bitsandbytes' libraries, one for each CUDA, the node's alone is carried.
cuda=${CUDA_VERSION:-130}
platforms=()
for name in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
    platforms+=(--platform "${name}_x86_64")
done

mkdir -p "$folder"
rm -f "$folder"/*.whl

# The one package that has no wheel is built; it is plain Python and fits everywhere.
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" antlr4-python3-runtime==4.9.3
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" \
    --implementation cp "${platforms[@]}" --dest "$folder" "${WHEELS[@]}"

"$python" - "$folder" "$cuda" <<'PYTHON'
"""Wheels without the libraries for other CUDAs and other GPUs."""

import re
import sys
import zipfile
from pathlib import Path

folder, cuda = sys.argv[1:]
for path in Path(folder).glob("bitsandbytes-*.whl"):
    whole = path.rename(path.with_suffix(".whole"))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        kinds = re.compile(rf"/libbitsandbytes_(?!cpu|cuda{cuda})\w+\.so")
        for item in old.infolist():
            if kinds.search(item.filename):
                continue
            data = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                lines = data.decode().splitlines(keepends=True)
                data = "".join(line for line in lines if not kinds.search(line)).encode()
            new.writestr(item, data)
    whole.unlink()
PYTHON

"$python" - "$folder" "$version" "${HAVE[@]}" <<'PYTHON'
"""Every requirement of every wheel is met by another wheel or by what the node has."""

import re
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

folder, version, *have = sys.argv[1:]
node = {"python_version": version, "python_full_version": f"{version}.0", "extra": ""}
node |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


there = {plain(x.split("==")[0]): x.split("==")[1] if "==" in x else None for x in have}
wheels = {}
for path in sorted(Path(folder).glob("*.whl")):
    with zipfile.ZipFile(path) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        wheels[path.name] = HeaderParser().parsestr(wheel.read(name).decode())
there |= {plain(about["Name"]): about["Version"] for about in wheels.values()}

problems = []
for file, about in wheels.items():
    for text in about.get_all("Requires-Dist", []):
        need = Requirement(text)
        if need.marker and not need.marker.evaluate(node):
            continue
        found = there.get(plain(need.name), "lacking")
        fits = found is None or (
            found != "lacking" and need.specifier.contains(Version(found), prereleases=True)
        )
        if not fits:
            problems.append(f"{file} requires {need}: {found}")
sys.exit("\n".join(problems) or 0)
PYTHON

ls -1 "$folder"
total=$(du -sm "$folder" | cut -f1)
echo "$total MiB in $folder"
if [ "$total" -gt "$limit_mib" ]; then
    echo "more than $limit_mib MiB: too much to carry at once" >&2
    exit 1
fi
