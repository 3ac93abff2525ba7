#!/usr/bin/env bash
# Runs on a machine with a GPU what tools/gpu/bundle.ts bundled: the backends' tests on the hardware, then every benchmark.
# Results go to $OUT, one file a step. Steps are cut off, so that a hang costs a minute, not the rest.
#
#     OUT=results DENO=deno bash run.sh [STEP]…     steps: doctor tests bench gemm entropy kvz restore table5
set -u
cd "$(dirname "$0")"
OUT=$(mkdir -p "${OUT:-results}" && cd "${OUT:-results}" && pwd)
DENO=${DENO:-deno}
export NO_COLOR=1 XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" KVZ_CUDA_LIBRARY="${KVZ_CUDA_LIBRARY:-libcuda.so.1}"
KVZ_CUBLASLT=${KVZ_CUBLASLT:-$(ldconfig -p | awk '/libcublasLt.so.1[0-9]/ { print $NF; exit }')}
[[ -n $KVZ_CUBLASLT ]] || KVZ_CUBLASLT=$(find / -name 'libcublasLt.so.1[0-9]' -not -path '/proc/*' 2> /dev/null | head -n 1)
export KVZ_CUBLASLT
RUN=("$DENO" run -A --no-config --v8-flags=--max-old-space-size=16000)

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$OUT/device"
echo "cuBLASLt: ${KVZ_CUBLASLT:-none}"

# step NAME SECONDS COMMAND…
step() {
  local name=$1 limit=$2
  shift 2
  if ((${#WANTED[@]} > 0)) && [[ " ${WANTED[*]} " != *" ${name%%_*} "* ]]; then return; fi
  echo "== [$SECONDS s] $name"
  timeout --kill-after 5 "$limit" "$@" > "$OUT/$name" 2>&1
  local code=$?
  tail -n "${LINES_SHOWN:-14}" "$OUT/$name" | cut -c -400
  ((code == 0)) || echo "== $name: exit code $code"
}
WANTED=("$@")

step doctor 40 "${RUN[@]}" kvz_cli.js doctor
KVZ_REQUIRE=${KVZ_REQUIRE:-cuda,webgpu} \
  step tests 150 "$DENO" test -A --no-check --no-config --no-lock -q tests.js
grep -E "=> " "$OUT/tests" 2> /dev/null | sort -u | head -n 40
LINES_SHOWN=40
step bench_cuda 60 "${RUN[@]}" kvz_cli.js bench --backend cuda --seconds 0.2
step bench_webgpu 60 "${RUN[@]}" kvz_cli.js bench --backend webgpu --seconds 0.2
step gemm_cuda 60 "${RUN[@]}" gemm.js cuda
step gemm_webgpu 60 "${RUN[@]}" gemm.js webgpu
step entropy_cuda 60 "${RUN[@]}" entropy.js cuda
step entropy_webgpu 60 "${RUN[@]}" entropy.js webgpu --mebibytes 1,16,64
step restore 90 "${RUN[@]}" restore.js --profiles "$(ls samples/*.kvzp | paste -sd,)"
step kvz_cuda 90 "${RUN[@]}" kvz.js cuda
step kvz_one 40 "${RUN[@]}" kvz.js cuda --tokens 512 --chunk 512 --batch 512
step kvz_sample 60 "${RUN[@]}" kvz.js cuda --profile samples/smollm2-kvz.kvzp --cache samples/smollm2-256.safetensors --repeat 32
step kvz_webgpu 60 "${RUN[@]}" kvz.js webgpu --only trellis
step table5_9984 100 "${RUN[@]}" table5.js --backend cuda --components 9984
step table5_7936 90 "${RUN[@]}" table5.js --backend cuda --components 7936
echo "== [$SECONDS s] done"
