#!/bin/bash
# Builds the wheel into target/wheels, and installs it into target/venv where it is another than the one there.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "==> building the wheel (the first time takes some minutes)"
rm -rf target/wheels/new
# As old as what is built: whoever edits meanwhile has it built again.
mkdir -p target/wheels
touch target/wheels/.building
# maturin is as talkative as cargo; what it said is shown where it failed.
if ! target/venv/bin/maturin build --release --locked -j2 --interpreter target/venv/bin/python --out target/wheels/new \
    >target/wheel.log 2>&1 </dev/null; then
    cat target/wheel.log >&2
    exit 1
fi
wheel=$(cd target/wheels/new && echo *.whl)
if ! cmp -s "target/wheels/new/$wheel" "target/wheels/$wheel" || ! target/venv/bin/python -c 'import saltext.migrate' 2>/dev/null; then
    echo "==> installing $wheel into target/venv"
    target/boot/bin/uv pip install --quiet --compile-bytecode --offline --no-deps --reinstall --python target/venv/bin/python "target/wheels/new/$wheel"
    find target/wheels -maxdepth 1 -name '*.whl' -delete
    mv "target/wheels/new/$wheel" target/wheels/
fi
rm -rf target/wheels/new
mv target/wheels/.building target/wheels/.installed
